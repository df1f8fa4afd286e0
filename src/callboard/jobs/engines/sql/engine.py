"""The engine: two lines to one database, one that writes and one that reads, and a dialect."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import sqlalchemy

from callboard.databases import database, line
from callboard.jobs import engine as seam
from callboard.jobs.engines import reading
from callboard.jobs.engines.sql import dialect as dialects
from callboard.jobs.engines.sql import reads, routes, tidying, writes

T = TypeVar("T")

CLAIMED_BOUND: Final = 100_000


class SqlEngine(reading.Reading):
    """See `callboard.jobs.engine.Engine`. Any number of processes and machines may open one database; its tables are there."""

    abilities = seam.Abilities(durable=True, shared=True, machines=True, transactional_submit=True)

    def __init__(self, at: database.Database, dialect: dialects.Dialect) -> None:
        self.name = dialect.name
        self._dialect = dialect
        self._writer = line.Line(at, session=dialect.session)
        self._reader = line.Line(at, session=dialect.session)
        self._reading = threading.Lock()
        self._tidying = tidying.Tidying(at, dialect.tidy)
        self._routes = routes.Routes(dialect)
        self._claimed: writes.Claimed = {}
        self._slot = random.randrange(writes.OWN_SLOTS)

    def apply(self, units: Sequence[seam.Unit]) -> list[seam.UnitResult]:
        if not units:
            return []
        domains, keys = self._routes.lacking(units)
        if domains or keys:
            self._writer.transact(lambda on: self._routes.make(on, domains, keys))
            self._writer.transact(self._routes.refresh)
        try:
            results, ended = self._writer.transact(lambda on: self._apply(on, units))
        except writes.Stolen:
            results, ended = self._writer.transact(lambda on: self._apply(on, units, careful=True))
        self._tidying.wrote(len(units))
        for key in ended:
            self._claimed.pop(key, None)
        if len(self._claimed) > CLAIMED_BOUND:
            self._claimed.clear()
        return results

    def _apply(
        self, on: sqlalchemy.Connection, units: Sequence[seam.Unit], *, careful: bool = False
    ) -> tuple[list[seam.UnitResult], list[tuple[str, bytes]]]:
        work = writes.Writes(on, self._dialect, self._routes, self._claimed, self._slot, careful=careful)
        results = work.apply(units)
        if work.alone:
            self._writer.alone(on)
        return results, work.ended

    def _read(self, question: Callable[[seam.Reads], T]) -> T:
        with self._reading:
            return self._reader.read(lambda on: question(reads.Reads(on, self._routes)))

    def close(self) -> None:
        self._writer.close()
        self._reader.close()
