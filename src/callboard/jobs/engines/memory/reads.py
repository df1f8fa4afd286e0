"""What is asked of the tables and changes nothing; a function a question. Called by an engine, with the store's lock held."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from callboard.jobs import engine as seam
from callboard.jobs import model
from callboard.jobs.engines import pages
from callboard.jobs.engines.memory import verbs
from callboard.jobs.engines.memory.tables import Key, Tables
from callboard.kit import grammar

LOOKED_AT: Final = 2_000
"""Jobs that one page of `find` looks at, at most."""


def find(tables: Tables, filter: seam.Filter, limit: int, cursor: bytes | None) -> tuple[list[Key], bytes | None]:
    """Return the keys of a page, and the next page's cursor. Raises InvalidInput for a cursor that no page gave."""
    found: list[Key] = []
    last = None
    for looked, key in enumerate(_newest(tables, filter, cursor)):
        if len(found) >= limit or looked >= LOOKED_AT:
            return found, last
        domain, id = key
        last = id + domain.encode()
        if matches(tables.rows[key].job, filter):
            found.append(key)
    return found, None


def counts(tables: Tables, domain: str, subtree: bool) -> list[model.Count]:
    return [
        model.Count(inner, queue, kind, lane, state, number)
        for inner, numbers in tables.numbers.items()
        if inner == domain or (subtree and grammar.inside(inner, domain))
        for (queue, kind, lane, state), number in numbers.items()
    ]


def ready(tables: Tables, takes: Sequence[seam.Take], now: int) -> bool:
    return any(
        bucket in tables.ready or any(due[0] <= now for due in islice(tables.due.get(bucket, ()), 1))
        for take in takes
        if take.limit > 0
        for bucket in verbs.buckets(take)
    )


def claimants(tables: Tables) -> list[tuple[bytes, int]]:
    return [(node, tables.renewed.get(node, 0)) for (node,) in tables.running]


def domains(tables: Tables) -> list[str]:
    written = tables.documents.items()
    documented = {domain for domain, paths in written if any(last.body is not None for last in paths.values())}
    return sorted(documented.union(tables.ids))


def matches(job: model.Job, filter: seam.Filter) -> bool:
    """Tell whether a job of the filter's domains fulfils its conditions."""
    return (
        (filter.states is None or job.state in filter.states)
        and (filter.kind is None or job.kind == filter.kind)
        and (filter.queue is None or job.queue == filter.queue)
        and (filter.tag is None or filter.tag in job.tags)
    )


def _newest(tables: Tables, filter: seam.Filter, cursor: bytes | None) -> Iterator[Key]:
    """Yield the keys of the filter's domains below the cursor, by descending (id, domain)."""
    below = None if cursor is None else pages.read_cursor(cursor)
    domains = [filter.domain]
    if filter.subtree:
        domains = [domain for domain in tables.ids if grammar.inside(domain, filter.domain)]
    merged = heapq.merge(*(_below(tables, domain, below) for domain in domains), reverse=True)
    return ((domain, id) for id, domain in merged)


def _below(tables: Tables, domain: str, below: tuple[bytes, str] | None) -> Iterator[tuple[bytes, str]]:
    ids = tables.ids.get(domain)
    if ids is None:
        return
    # An id may exist in several domains: those that sort before the cursor's domain still have the cursor's own id to come.
    start = None if below is None else below[0] + b"\x00" * (domain < below[1])
    for id in ids.below(start):
        yield id, domain
