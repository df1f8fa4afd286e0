"""How jobs are listed and counted, whatever they are kept in: pages of many domains in one order, cursors, sums. Pure.

A page has its jobs by descending (id, domain); its cursor is the id and the domain of the last one that was looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from callboard import errors
from callboard.jobs import engine as seam
from callboard.jobs import model
from callboard.jobs.engines import mapping
from callboard.kit import grammar

SCAN: Final = 5_000
"""Jobs looked at for one page, at most."""
FEW: Final = 10_000
"""Jobs of some states up to which they are all looked at."""

_BEYOND: Final = b"\xff" * 17
"""Greater than every id."""

Look = Callable[[int, bytes], tuple[Iterable[model.Job], bytes | None]]
"""Takes a domain's number and the id below which it looks; returns jobs that match, and where the look ended if early."""


def page(domains: Mapping[str, int], filter: seam.Filter, limit: int, cursor: bytes | None, look: Look) -> seam.Page:
    """Look into each domain of a filter; put together what was found. Raises InvalidInput for a cursor that no page gave."""
    after_id, after_name = (_BEYOND, "") if cursor is None else read_cursor(cursor)
    found: list[model.Job] = []
    ends: list[tuple[bytes, str]] = []
    for name, domain in list(domains.items()):
        if name == filter.domain or (filter.subtree and grammar.inside(name, filter.domain)):
            # The cursor's own id may still come in the domains that sort before the cursor's.
            jobs, end = look(domain, after_id + b"\0" if name < after_name else after_id)
            found += jobs
            if end is not None:
                ends.append((end, name))
    # A domain whose look ended early has seen nothing beyond its end: the page stops at the nearest of these.
    stop = max(ends, default=None)
    jobs = sorted(found, key=_order, reverse=True)
    if stop is not None:
        jobs = [job for job in jobs if _order(job) >= stop]
    if len(jobs) > limit:
        jobs = jobs[:limit]
        stop = _order(jobs[-1])
    return seam.Page(jobs, None if stop is None else stop[0] + stop[1].encode())


def read_cursor(cursor: bytes) -> tuple[bytes, str]:
    """Return the (id, domain) that a cursor stands for. Raises InvalidInput."""
    try:
        return cursor[:16], grammar.check_domain(cursor[16:].decode())
    except (UnicodeDecodeError, errors.InvalidName):
        raise errors.InvalidInput("the cursor is not one that a page gave: begin again without it") from None


def numbers(filter: seam.Filter, routes: Iterable[mapping.Route]) -> list[int] | None:
    """Return the routes of the kind and queue that a filter names, None when it names neither."""
    if filter.kind is None and filter.queue is None:
        return None
    return [route.route for route in routes if filter.kind in (None, route.kind) and filter.queue in (None, route.queue)]


def of_domain(domain: int, routes: Iterable[mapping.Route], numbers: Sequence[int] | None) -> list[int]:
    """Return a domain's routes, of some numbers only unless None is given."""
    chosen = None if numbers is None else set(numbers)
    return [route.route for route in routes if route.domain == domain and (chosen is None or route.route in chosen)]


def condition(filter: seam.Filter, numbers: Sequence[int] | None) -> str:
    """Return what rows of a filter's states and of some routes fulfil, in SQL."""
    parts = []
    if filter.states is not None:
        parts.append(f"state IN ({','.join(str(int(state)) for state in sorted(filter.states)) or 'NULL'})")
    if numbers is not None:
        parts.append(f"route IN ({','.join(map(str, numbers)) or 'NULL'})")
    return " AND ".join(parts) or "1 = 1"


def counted(
    found: Iterable[tuple[int, int, int]], route_of: Callable[[int], mapping.Route], domain: str, subtree: bool
) -> list[model.Count]:
    """Return the counts of a domain, or of its subtree, from rows of (route, state, jobs)."""
    totals: dict[tuple[str, str, str, model.Lane, model.State], int] = {}
    for number, state, jobs in found:
        route = route_of(number)
        if route.name == domain or (subtree and grammar.inside(route.name, domain)):
            key = (route.name, route.queue, route.kind, route.lane, mapping.STATES[state])
            totals[key] = totals.get(key, 0) + int(jobs)
    return [model.Count(*key, jobs) for key, jobs in sorted(totals.items())]


def _order(job: model.Job) -> tuple[bytes, str]:
    return job.id, job.domain
