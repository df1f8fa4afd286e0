"""Questions to the store, on a connection of their own: readers and the writer do not wait for each other (WAL)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import apsw

from callboard import errors
from callboard.jobs import engine as seam
from callboard.jobs import model
from callboard.jobs.engines.sqlite import routes, schema
from callboard.kit import grammar

SCAN: Final = 5_000
"""Jobs looked at for one page, at most."""
FEW: Final = 10_000
"""Jobs of a state up to which they are listed from its own index."""

_BEYOND: Final = b"\xff" * 17
"""Greater than every id."""

Row = tuple[Any, ...]


class Reads:
    """Answers questions through one connection. Not shared between threads."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection
        self._routes = routes.Routes(connection)

    def get(self, keys: Sequence[tuple[str, bytes]]) -> list[model.Job | None]:
        rows = self._by_key(schema.COLUMNS, keys)
        self._routes.refresh_if_grown()
        return [None if row is None else schema.job(row, self._routes.by_number) for row in rows]

    def states(self, keys: Sequence[tuple[str, bytes]]) -> list[tuple[model.State, int] | None]:
        rows = self._by_key("id, state, run", keys)
        return [None if row is None else (schema.STATES[row[1]], row[2]) for row in rows]

    def _by_key(self, columns: str, keys: Sequence[tuple[str, bytes]]) -> list[Row | None]:
        query = f"SELECT {columns} FROM jobs WHERE domain = ? AND id = ?"
        return [self._db.execute(query, (self._routes.domain(domain), id)).fetchone() for domain, id in keys]

    def attempt_errors(self, domain: str, id: bytes) -> list[model.AttemptError]:
        query = (
            "SELECT run, fence, attempt, code, type, message, traceback, at, node FROM attempt_errors"
            " WHERE domain = ? AND id = ? ORDER BY run, fence"
        )
        names = ("run", "fence", "attempt", "code", "type", "message", "traceback", "at", "node")
        rows = self._db.execute(query, (self._routes.domain(domain), id))
        return [model.AttemptError(**dict(zip(names, row, strict=True))) for row in rows]

    def find(self, filter: seam.Filter, limit: int, cursor: bytes | None) -> seam.Page:
        self._routes.refresh()
        numbers = self._numbers(filter)
        domains = [n for name, n in self._routes.domains.items() if _in_domain(name, filter)]
        after_id, after_name = (_BEYOND, "") if cursor is None else _read_cursor(cursor)
        found: list[model.Job] = []
        ends: list[tuple[bytes, str]] = []
        for domain in domains:
            # The cursor's own id may still come in the domains that sort before the cursor's.
            below = after_id + b"\0" if self._name(domain) < after_name else after_id
            rows, end = self._find_in(domain, filter, numbers, limit, below)
            found += (schema.job(row, self._routes.by_number) for row in rows)
            if end is not None:
                ends.append((end, self._name(domain)))
        # A domain whose look ended early has seen nothing beyond its end: the page stops at the nearest of these.
        stop = max(ends, default=None)
        jobs = sorted(found, key=_order, reverse=True)
        if stop is not None:
            jobs = [job for job in jobs if (job.id, job.domain) >= stop]
        if len(jobs) > limit:
            jobs = jobs[:limit]
            stop = _order(jobs[-1])
        return seam.Page(jobs, None if stop is None else stop[0] + stop[1].encode())

    def _name(self, domain: int) -> str:
        return next(name for name, number in self._routes.domains.items() if number == domain)

    def _numbers(self, filter: seam.Filter) -> list[int] | None:
        """Return the routes of the kind and queue that a filter names, None when it names neither."""
        if filter.kind is None and filter.queue is None:
            return None
        return [
            route.route
            for route in self._routes.by_number.values()
            if filter.kind in (None, route.kind) and filter.queue in (None, route.queue)
        ]

    def _find_in(
        self, domain: int, filter: seam.Filter, numbers: list[int] | None, limit: int, below: bytes
    ) -> tuple[list[Row], bytes | None]:
        """Return matching rows of one domain with ids below `below`, newest first, and where the look ended if early."""
        source, values, bound = self._source(domain, filter, numbers, below)
        where = []
        if filter.states is not None:
            where.append(f"state IN ({','.join(str(int(state)) for state in sorted(filter.states))})")
        if numbers is not None:
            where.append(f"route IN ({','.join(map(str, numbers))})")
        condition = " AND ".join(where) or "1"
        text = f"SELECT {schema.COLUMNS} FROM ({source}) WHERE {condition} ORDER BY id DESC LIMIT {limit + 1:d}"
        rows: list[Row] = self._db.execute(text, values).fetchall()
        if len(rows) > limit:
            return rows[:limit], rows[limit - 1][0]
        if not bound:
            return rows, None
        edge = f"SELECT id FROM ({source}) ORDER BY id DESC LIMIT 1 OFFSET {bound - 1:d}"
        last: bytes | None = self._db.execute(edge, values).get
        return rows, last

    def _source(self, domain: int, filter: seam.Filter, numbers: list[int] | None, below: bytes) -> tuple[str, list[Any], int]:
        """Return the cheapest subquery that has all matching jobs, its values, and its bound (0: it has them all)."""
        chosen = filter.states
        if filter.tag is not None:
            return (
                "SELECT jobs.* FROM (SELECT id FROM job_tags WHERE domain = ? AND tag = ? AND id < ? ORDER BY id DESC"
                f" LIMIT {SCAN}) AS t CROSS JOIN jobs ON jobs.domain = ? AND jobs.id = t.id",
                [domain, filter.tag, below, domain],
                SCAN,
            )
        if chosen is not None and chosen == {model.State.RUNNING}:
            return "SELECT * FROM jobs INDEXED BY jobs_running WHERE state = 3 AND domain = ? AND id < ?", [domain, below], 0
        if chosen is not None and len(chosen) == 1 and chosen <= schema.UNEVEN:
            return (
                "SELECT * FROM jobs INDEXED BY jobs_uneven WHERE state IN (1, 4, 5, 7, 8) AND domain = ? AND state = ?"
                f" AND id < ? ORDER BY id DESC LIMIT {SCAN}",
                [domain, int(next(iter(chosen))), below],
                SCAN,
            )
        if chosen is not None and chosen == {model.State.AVAILABLE} and (few := self._few_ready(domain, numbers)):
            return (
                f"SELECT * FROM jobs INDEXED BY jobs_ready WHERE state = 2 AND route IN ({','.join(map(str, few))}) AND id < ?",
                [below],
                0,
            )
        return (
            f"SELECT * FROM jobs INDEXED BY jobs_identity WHERE domain = ? AND id < ? ORDER BY id DESC LIMIT {SCAN}",
            [domain, below],
            SCAN,
        )

    def _few_ready(self, domain: int, numbers: list[int] | None) -> list[int]:
        """Return the domain's routes among `numbers`, if they have few available jobs; else none."""
        mine = [r.route for r in self._routes.by_number.values() if r.domain == domain]
        mine = [route for route in mine if numbers is None or route in set(numbers)]
        query = "SELECT coalesce(sum(jobs), 0) FROM counts WHERE state = 2 AND route IN (SELECT value FROM json_each(?))"
        return mine if self._db.execute(query, (json.dumps(mine),)).get <= FEW else []

    def counts(self, domain: str, subtree: bool) -> list[model.Count]:
        self._routes.refresh()
        totals: dict[tuple[str, str, str, model.Lane, model.State], int] = {}
        for number, state, jobs in self._db.execute("SELECT route, state, jobs FROM counts WHERE jobs > 0"):
            route = self._routes.by_number[number]
            if route.name == domain or (subtree and grammar.inside(route.name, domain)):
                key = (route.name, route.queue, route.kind, route.lane, schema.STATES[state])
                totals[key] = totals.get(key, 0) + jobs
        return [model.Count(*key, jobs) for key, jobs in sorted(totals.items())]

    def ready(self, takes: Sequence[seam.Take], now: int) -> bool:
        self._routes.refresh_if_grown()
        for take in takes:
            for number in self._routes.of_take(take) if take.limit > 0 else ():
                query = (
                    "SELECT EXISTS(SELECT 1 FROM jobs INDEXED BY jobs_ready WHERE state = 2 AND route = ?)"
                    " OR EXISTS(SELECT 1 FROM jobs INDEXED BY jobs_due WHERE state IN (1, 4) AND route = ? AND run_at <= ?)"
                )
                if self._db.execute(query, (number, number, now)).get:
                    return True
        return False

    def claimants(self) -> list[tuple[bytes, int]]:
        query = (
            "SELECT owner, coalesce(renewed_at, 0) FROM"
            " (SELECT DISTINCT node AS owner FROM jobs INDEXED BY jobs_running WHERE state = 3)"
            " LEFT JOIN nodes ON nodes.node = owner ORDER BY owner"
        )
        rows: list[Row] = self._db.execute(query).fetchall()
        return [(owner, renewed_at) for owner, renewed_at in rows]

    def documents(self, domain: str, prefix: str) -> list[model.Document]:
        query = (
            "SELECT path, version, body FROM documents WHERE domain = ? AND path >= ? AND substr(path, 1, ?) = ?"
            " AND body IS NOT NULL ORDER BY path"
        )
        values = (self._routes.domain(domain), prefix, len(prefix), prefix)
        return [model.Document(domain, *row) for row in self._db.execute(query, values)]

    def document(self, domain: str, path: str) -> model.Document:
        query = "SELECT version, body FROM documents WHERE domain = ? AND path = ?"
        row = self._db.execute(query, (self._routes.domain(domain), path)).fetchone()
        return model.Document(domain, path, *((row[0], row[1] or b"") if row else (0, b"")))

    def domains(self) -> list[str]:
        query = (
            "SELECT name FROM domains AS d WHERE EXISTS(SELECT 1 FROM jobs INDEXED BY jobs_identity WHERE domain = d.domain)"
            " OR EXISTS(SELECT 1 FROM documents WHERE domain = d.domain AND body IS NOT NULL) ORDER BY name"
        )
        return [name for (name,) in self._db.execute(query)]


def _order(job: model.Job) -> tuple[bytes, str]:
    return job.id, job.domain


def _read_cursor(cursor: bytes) -> tuple[bytes, str]:
    try:
        return cursor[:16], grammar.check_domain(cursor[16:].decode())
    except (UnicodeDecodeError, errors.InvalidName):
        raise errors.InvalidInput("the cursor is not one that a page gave: begin again without it") from None


def _in_domain(name: str, filter: seam.Filter) -> bool:
    return name == filter.domain or (filter.subtree and grammar.inside(name, filter.domain))
