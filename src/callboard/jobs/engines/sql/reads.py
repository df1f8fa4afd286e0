"""Questions to the store, each on one snapshot of its own: readers wait for nobody."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import sqlalchemy

from callboard import errors
from callboard.jobs import engine as seam
from callboard.jobs import model
from callboard.jobs.engines.sql import routes, schema, texts
from callboard.kit import grammar

SCAN: Final = 5_000
"""Jobs looked at for one page, at most."""
FEW: Final = 10_000
"""Jobs of some states up to which they are all looked at."""

_BEYOND: Final = b"\xff" * 17
"""Greater than every id."""


class Reads:
    """Answers questions on one connection, inside one snapshot."""

    def __init__(self, on: sqlalchemy.Connection, known: routes.Routes) -> None:
        self._on = on
        self._routes = known

    def get(self, keys: Sequence[tuple[str, bytes]]) -> list[model.Job | None]:
        found = self._by_key(schema.COLUMNS, keys)
        return [None if key not in found else self._job(found[key]) for key in keys]

    def states(self, keys: Sequence[tuple[str, bytes]]) -> list[tuple[model.State, int] | None]:
        found = self._by_key("id, state, run", keys)
        return [None if key not in found else (schema.STATES[found[key][1]], found[key][2]) for key in keys]

    def _job(self, row: Any) -> model.Job:
        return schema.job(row, self._routes.route(row[1], self._on))

    def _by_key(self, columns: str, keys: Sequence[tuple[str, bytes]]) -> dict[tuple[str, bytes], Any]:
        wanted = {(self._routes.domain(domain, self._on), id): (domain, id) for domain, id in keys}
        found: dict[tuple[str, bytes], Any] = {}
        for part in texts.parts(list(wanted)):
            text = f"SELECT domain, {columns} FROM callboard_jobs WHERE (domain, id) IN {texts.lists_of(2, part)}"
            found |= {wanted[row[0], row[1]]: row[1:] for row in self._run(text, texts.flat(part))}
        return found

    def attempt_errors(self, domain: str, id: bytes) -> list[model.AttemptError]:
        query = (
            "SELECT run, fence, attempt, code, type, message, traceback, at, node FROM callboard_errors"
            " WHERE domain = %s AND id = %s ORDER BY run, fence"
        )
        return [schema.attempt_error(row) for row in self._run(query, (self._routes.domain(domain, self._on), id))]

    def find(self, filter: seam.Filter, limit: int, cursor: bytes | None) -> seam.Page:
        self._routes.refresh(self._on)
        numbers = self._numbers(filter)
        names = {number: name for name, number in list(self._routes.domains.items()) if _in_domain(name, filter)}
        after_id, after_name = (_BEYOND, "") if cursor is None else _read_cursor(cursor)
        found: list[model.Job] = []
        ends: list[tuple[bytes, str]] = []
        for domain, name in names.items():
            # The cursor's own id may still come in the domains that sort before the cursor's.
            below = after_id + b"\0" if name < after_name else after_id
            rows, end = self._find_in(domain, filter, numbers, limit, below)
            found += map(self._job, rows)
            if end is not None:
                ends.append((end, name))
        # A domain whose look ended early has seen nothing beyond its end: the page stops at the nearest of these.
        stop = max(ends, default=None)
        jobs = sorted(found, key=_order, reverse=True)
        if stop is not None:
            jobs = [job for job in jobs if (job.id, job.domain) >= stop]
        if len(jobs) > limit:
            jobs = jobs[:limit]
            stop = _order(jobs[-1])
        return seam.Page(jobs, None if stop is None else stop[0] + stop[1].encode())

    def _numbers(self, filter: seam.Filter) -> list[int] | None:
        """Return the routes of the kind and queue that a filter names, None when it names neither."""
        if filter.kind is None and filter.queue is None:
            return None
        return [
            route.route
            for route in self._routes.all()
            if filter.kind in (None, route.kind) and filter.queue in (None, route.queue)
        ]

    def _find_in(
        self, domain: int, filter: seam.Filter, numbers: list[int] | None, limit: int, below: bytes
    ) -> tuple[list[Any], bytes | None]:
        """Return matching rows of one domain with ids below `below`, newest first, and where the look ended if early."""
        source, values, bound = self._source(domain, filter, numbers, below)
        where = []
        if filter.states is not None:
            where.append(f"state IN ({','.join(str(int(state)) for state in sorted(filter.states)) or 'NULL'})")
        if numbers is not None:
            where.append(f"route IN ({','.join(map(str, numbers)) or 'NULL'})")
        condition = " AND ".join(where) or "1 = 1"
        text = f"SELECT id, seq FROM ({source}) AS source WHERE {condition} ORDER BY id DESC LIMIT {limit + 1:d}"
        places = self._run(text, values)
        rows = self._by_seq([seq for _, seq in places[:limit]])
        if len(places) > limit:
            return rows, places[limit - 1][0]
        if not bound:
            return rows, None
        edge = f"SELECT id FROM ({source}) AS source ORDER BY id DESC LIMIT 1 OFFSET {bound - 1:d}"
        last = self._run(edge, values)
        return rows, last[0][0] if last else None

    def _by_seq(self, seqs: Sequence[int]) -> list[Any]:
        rows: list[Any] = []
        for part in texts.parts(seqs):
            rows += self._run(f"SELECT {schema.COLUMNS} FROM callboard_jobs WHERE seq IN {texts.list_of(part)}", part)
        return rows

    def _source(self, domain: int, filter: seam.Filter, numbers: list[int] | None, below: bytes) -> tuple[str, list[Any], int]:
        """Return the cheapest subquery for (id, seq, state, route) of all matching jobs, its values, and its bound (0: none)."""
        if filter.tag is not None:
            return (
                "SELECT jobs.id, seq, state, route FROM"
                " (SELECT domain, id FROM callboard_tags WHERE domain = %s AND tag = %s AND id < %s"
                f" ORDER BY id DESC LIMIT {SCAN}) AS tagged JOIN callboard_jobs AS jobs"
                " ON jobs.domain = tagged.domain AND jobs.id = tagged.id",
                [domain, filter.tag, below],
                SCAN,
            )
        if filter.states and (few := self._few(domain, filter.states, numbers)):
            chosen = ",".join(str(int(state)) for state in sorted(filter.states))
            return (
                f"SELECT id, seq, state, route FROM callboard_jobs WHERE state IN ({chosen})"
                f" AND route IN ({','.join(map(str, few))}) AND id < %s",
                [below],
                0,
            )
        return (
            f"SELECT id, seq, state, route FROM callboard_jobs WHERE domain = %s AND id < %s ORDER BY id DESC LIMIT {SCAN}",
            [domain, below],
            SCAN,
        )

    def _few(self, domain: int, states: frozenset[model.State], numbers: list[int] | None) -> list[int]:
        """Return the domain's routes among `numbers`, if they have few jobs in these states; else none."""
        chosen = None if numbers is None else set(numbers)
        mine = [route.route for route in self._routes.all() if route.domain == domain]
        mine = [route for route in mine if chosen is None or route in chosen]
        if not mine:
            return []
        query = (
            f"SELECT coalesce(sum(jobs), 0) FROM callboard_counts WHERE state IN {texts.list_of(states)}"
            f" AND route IN {texts.list_of(mine)}"
        )
        return mine if self._run(query, (*map(int, states), *mine))[0][0] <= FEW else []

    def counts(self, domain: str, subtree: bool) -> list[model.Count]:
        totals: dict[tuple[str, str, str, model.Lane, model.State], int] = {}
        query = "SELECT route, state, sum(jobs) FROM callboard_counts GROUP BY route, state HAVING sum(jobs) > 0"
        for number, state, jobs in self._run(query):
            route = self._routes.route(number, self._on)
            if route.name == domain or (subtree and grammar.inside(route.name, domain)):
                key = (route.name, route.queue, route.kind, route.lane, schema.STATES[state])
                totals[key] = totals.get(key, 0) + int(jobs)
        return [model.Count(*key, jobs) for key, jobs in sorted(totals.items())]

    def ready(self, takes: Sequence[seam.Take], now: int) -> bool:
        if self._routes.unknown(takes):
            self._routes.refresh_if_grown(self._on)
        numbers = list(dict.fromkeys(n for take in takes if take.limit > 0 for n in self._routes.of_take(take)))
        for part in texts.parts(numbers):
            these = texts.list_of(part)
            query = (
                f"SELECT EXISTS(SELECT 1 FROM callboard_jobs WHERE state = 2 AND route IN {these}),"
                f" EXISTS(SELECT 1 FROM callboard_jobs WHERE state = 1 AND route IN {these} AND sort <= %s),"
                f" EXISTS(SELECT 1 FROM callboard_jobs WHERE state = 4 AND route IN {these} AND sort <= %s)"
            )
            if any(self._run(query, (*part, *part, now, *part, now))[0]):
                return True
        return False

    def claimants(self) -> list[tuple[bytes, int]]:
        query = (
            "SELECT owner, coalesce(renewed_at, 0) FROM"
            " (SELECT DISTINCT node AS owner FROM callboard_jobs WHERE state = 3) AS owners"
            " LEFT JOIN callboard_nodes ON callboard_nodes.node = owner ORDER BY owner"
        )
        return [(owner, renewed_at) for owner, renewed_at in self._run(query)]

    def documents(self, domain: str, prefix: str) -> list[model.Document]:
        query = (
            "SELECT path, version, body FROM callboard_documents WHERE domain = %s AND path >= %s"
            " AND substr(path, 1, %s) = %s AND body IS NOT NULL ORDER BY path"
        )
        values = (self._routes.domain(domain, self._on), prefix, len(prefix), prefix)
        return [model.Document(domain, path, version, body) for path, version, body in self._run(query, values)]

    def document(self, domain: str, path: str) -> model.Document:
        query = "SELECT version, body FROM callboard_documents WHERE domain = %s AND path = %s"
        rows = self._run(query, (self._routes.domain(domain, self._on), path))
        version, body = rows[0] if rows else (0, None)
        return model.Document(domain, path, version, body or b"")

    def domains(self) -> list[str]:
        query = (
            "SELECT name FROM callboard_domains AS d WHERE EXISTS(SELECT 1 FROM callboard_jobs WHERE domain = d.domain)"
            " OR EXISTS(SELECT 1 FROM callboard_documents WHERE domain = d.domain AND body IS NOT NULL) ORDER BY name"
        )
        return [name for (name,) in self._run(query)]

    def _run(self, text: str, values: Iterable[Any] = ()) -> list[Any]:
        return texts.run(self._on, text, values)


def _order(job: model.Job) -> tuple[bytes, str]:
    return job.id, job.domain


def _read_cursor(cursor: bytes) -> tuple[bytes, str]:
    try:
        return cursor[:16], grammar.check_domain(cursor[16:].decode())
    except (UnicodeDecodeError, errors.InvalidName):
        raise errors.InvalidInput("the cursor is not one that a page gave: begin again without it") from None


def _in_domain(name: str, filter: seam.Filter) -> bool:
    return name == filter.domain or (filter.subtree and grammar.inside(name, filter.domain))
