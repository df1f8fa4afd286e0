"""Questions to the store, on a connection of their own: readers and the writer do not wait for each other (WAL)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import apsw

from callboard.jobs import engine as seam
from callboard.jobs import model
from callboard.jobs.engines import mapping, pages
from callboard.jobs.engines.sqlite import routes, schema

Row = tuple[Any, ...]


class Reads:
    """Answers questions through one connection. Not shared between threads."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection
        self._routes = routes.Routes(connection)

    def get(self, keys: Sequence[tuple[str, bytes]]) -> list[model.Job | None]:
        rows = self._by_key(mapping.COLUMNS, keys)
        self._routes.refresh_if_grown()
        return [None if row is None else self._job(row) for row in rows]

    def states(self, keys: Sequence[tuple[str, bytes]]) -> list[tuple[model.State, int] | None]:
        rows = self._by_key("id, state, run", keys)
        return [None if row is None else (mapping.STATES[row[1]], row[2]) for row in rows]

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

    def find(self, filter: seam.Filter, limit: int, cursor: bytes | None = None) -> seam.Page:
        self._routes.refresh()
        numbers = pages.numbers(filter, self._routes.by_number.values())

        def look(domain: int, below: bytes) -> tuple[list[model.Job], bytes | None]:
            rows, end = self._find_in(domain, filter, numbers, limit, below)
            return [self._job(row) for row in rows], end

        return pages.page(self._routes.domains, filter, limit, cursor, look)

    def _job(self, row: Row) -> model.Job:
        return mapping.job(row, self._routes.by_number[row[1]])

    def _find_in(
        self, domain: int, filter: seam.Filter, numbers: list[int] | None, limit: int, below: bytes
    ) -> tuple[list[Row], bytes | None]:
        """Return matching rows of one domain with ids below `below`, newest first, and where the look ended if early."""
        source, values, bound = self._source(domain, filter, numbers, below)
        condition = pages.condition(filter, numbers)
        text = f"SELECT {mapping.COLUMNS} FROM ({source}) WHERE {condition} ORDER BY id DESC LIMIT {limit + 1:d}"
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
                f" LIMIT {pages.SCAN}) AS t CROSS JOIN jobs ON jobs.domain = ? AND jobs.id = t.id",
                [domain, filter.tag, below, domain],
                pages.SCAN,
            )
        if chosen is not None and chosen == {model.State.RUNNING}:
            return "SELECT * FROM jobs INDEXED BY jobs_running WHERE state = 3 AND domain = ? AND id < ?", [domain, below], 0
        if chosen is not None and len(chosen) == 1 and chosen <= schema.UNEVEN:
            return (
                "SELECT * FROM jobs INDEXED BY jobs_uneven WHERE state IN (1, 4, 5, 7, 8) AND domain = ? AND state = ?"
                f" AND id < ? ORDER BY id DESC LIMIT {pages.SCAN}",
                [domain, int(next(iter(chosen))), below],
                pages.SCAN,
            )
        if chosen is not None and chosen == {model.State.AVAILABLE} and (few := self._few_ready(domain, numbers)):
            return (
                f"SELECT * FROM jobs INDEXED BY jobs_ready WHERE state = 2 AND route IN ({','.join(map(str, few))}) AND id < ?",
                [below],
                0,
            )
        return (
            f"SELECT * FROM jobs INDEXED BY jobs_identity WHERE domain = ? AND id < ? ORDER BY id DESC LIMIT {pages.SCAN}",
            [domain, below],
            pages.SCAN,
        )

    def _few_ready(self, domain: int, numbers: list[int] | None) -> list[int]:
        """Return the domain's routes among `numbers`, if they have few available jobs; else none."""
        mine = pages.of_domain(domain, self._routes.by_number.values(), numbers)
        query = "SELECT coalesce(sum(jobs), 0) FROM counts WHERE state = 2 AND route IN (SELECT value FROM json_each(?))"
        return mine if self._db.execute(query, (json.dumps(mine),)).get <= pages.FEW else []

    def counts(self, domain: str, subtree: bool = False) -> list[model.Count]:
        self._routes.refresh()
        found = self._db.execute("SELECT route, state, jobs FROM counts WHERE jobs > 0")
        return pages.counted(found, self._routes.by_number.__getitem__, domain, subtree)

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
