"""Questions to the store, each on one snapshot of its own: readers wait for nobody."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy

from callboard.jobs import engine as seam
from callboard.jobs import model
from callboard.jobs.engines import mapping, pages
from callboard.jobs.engines.sql import routes, schema, texts


class Reads:
    """Answers questions on one connection, inside one snapshot."""

    def __init__(self, on: sqlalchemy.Connection, known: routes.Routes) -> None:
        self._on = on
        self._routes = known

    def get(self, keys: Sequence[tuple[str, bytes]]) -> list[model.Job | None]:
        found = self._by_key(mapping.COLUMNS, keys)
        return [None if key not in found else self._job(found[key]) for key in keys]

    def states(self, keys: Sequence[tuple[str, bytes]]) -> list[tuple[model.State, int] | None]:
        found = self._by_key("id, state, run", keys)
        return [None if key not in found else (mapping.STATES[found[key][1]], found[key][2]) for key in keys]

    def _job(self, row: Any) -> model.Job:
        return mapping.job(row, self._routes.route(row[1], self._on))

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

    def find(self, filter: seam.Filter, limit: int, cursor: bytes | None = None) -> seam.Page:
        self._routes.refresh(self._on)
        numbers = pages.numbers(filter, self._routes.all())

        def look(domain: int, below: bytes) -> tuple[list[model.Job], bytes | None]:
            rows, end = self._find_in(domain, filter, numbers, limit, below)
            return [self._job(row) for row in rows], end

        return pages.page(self._routes.domains, filter, limit, cursor, look)

    def _find_in(
        self, domain: int, filter: seam.Filter, numbers: list[int] | None, limit: int, below: bytes
    ) -> tuple[list[Any], bytes | None]:
        """Return matching rows of one domain with ids below `below`, newest first, and where the look ended if early."""
        source, values, bound = self._source(domain, filter, numbers, below)
        condition = pages.condition(filter, numbers)
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
            rows += self._run(f"SELECT {mapping.COLUMNS} FROM callboard_jobs WHERE seq IN {texts.list_of(part)}", part)
        return rows

    def _source(self, domain: int, filter: seam.Filter, numbers: list[int] | None, below: bytes) -> tuple[str, list[Any], int]:
        """Return the cheapest subquery for (id, seq, state, route) of all matching jobs, its values, and its bound (0: none)."""
        if filter.tag is not None:
            return (
                "SELECT jobs.id, seq, state, route FROM"
                " (SELECT domain, id FROM callboard_tags WHERE domain = %s AND tag = %s AND id < %s"
                f" ORDER BY id DESC LIMIT {pages.SCAN}) AS tagged JOIN callboard_jobs AS jobs"
                " ON jobs.domain = tagged.domain AND jobs.id = tagged.id",
                [domain, filter.tag, below],
                pages.SCAN,
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
            f"SELECT id, seq, state, route FROM callboard_jobs WHERE domain = %s AND id < %s ORDER BY id DESC LIMIT {pages.SCAN}",
            [domain, below],
            pages.SCAN,
        )

    def _few(self, domain: int, states: frozenset[model.State], numbers: list[int] | None) -> list[int]:
        """Return the domain's routes among `numbers`, if they have few jobs in these states; else none."""
        mine = pages.of_domain(domain, self._routes.all(), numbers)
        if not mine:
            return []
        query = (
            f"SELECT coalesce(sum(jobs), 0) FROM callboard_counts WHERE state IN {texts.list_of(states)}"
            f" AND route IN {texts.list_of(mine)}"
        )
        return mine if self._run(query, (*map(int, states), *mine))[0][0] <= pages.FEW else []

    def counts(self, domain: str, subtree: bool = False) -> list[model.Count]:
        found = self._run("SELECT route, state, sum(jobs) FROM callboard_counts GROUP BY route, state HAVING sum(jobs) > 0")
        return pages.counted(found, lambda number: self._routes.route(number, self._on), domain, subtree)

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
