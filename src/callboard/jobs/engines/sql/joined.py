"""Work inside a transaction that is a user's: new jobs, and the end of a claim. `jobs.transactions` calls it.

The connection is the user's own, of whatever driver and isolation; nothing here begins, commits or rolls back more than a
savepoint around what is written here. So nothing is cached: what a transaction made may be rolled back, and the next connection
may lead to other tables. And no lock is taken that a worker or another user's transaction would meet: rows are found by plain
reads and locked by their keys alone.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import sqlalchemy
from sqlalchemy import exc

from callboard import errors
from callboard.jobs import engine as seam
from callboard.jobs import model, states
from callboard.jobs.engines.sql import schema, writes

SLOTS: Final = 1024
"""Slots of a count that MySQL's connections share by their numbers: of two that are open, hardly ever the same."""
_MYSQL: Final = ("mysql", "mariadb")
_NO_TABLE: Final = {1146, "42P01"}
_NO_TRANSACTION: Final = {"25P01"}
_DUPLICATE: Final = {1062}
_CHANGED_SINCE: Final = {"40001"}
_NAMED: Final = (
    "FROM callboard_store AS s LEFT JOIN callboard_domains AS d ON d.name = %s LEFT JOIN callboard_routes AS r"
    " ON r.domain = d.domain AND r.queue = %s AND r.lane = %s AND r.kind = %s AND r.version = %s"
    " LEFT JOIN callboard_jobs AS j ON j.domain = d.domain AND j.id = %s WHERE s.id = 1"
)
_FINISH: Final = (
    "UPDATE callboard_jobs SET state = %s, sort = %s, run_at = %s, attempts = %s, deaths = %s, node = NULL, cancel_requested = 0,"
    " finished_at = %s, result = %s, reason = NULL WHERE seq = %s AND fence = %s AND node = %s"
)
"""By `seq` alone, so that no other row is locked; a job has a node only while it runs."""


def unsupported(on: sqlalchemy.Connection) -> str:
    """Return why the product of a connection cannot do this; nothing when it can."""
    name = on.dialect.name
    if name in (*_MYSQL, "postgresql"):
        return ""
    if name == "sqlite":
        return "SQLite has one writer at a time, and your transaction would keep all workers waiting until it ends"
    return f"{name} holds no store"


def put(on: sqlalchemy.Connection, jobs: Sequence[model.Job], now: int) -> list[seam.Result]:
    """Store jobs, all of them, or none if one is refused; the results are those of `engine.Put`, in their order.

    Raises StoreForeign, StoreUnfit, StoreTooNew, InvalidInput for a connection that commits each statement, and what SQLAlchemy
    raises: then nothing of it was written, unless all that the transaction did is lost anyway.
    """
    hand = _Hand(on)
    moved: Counter[tuple[int, int]] = Counter()
    results: list[seam.Result] = []
    with hand.whole() as undo:
        for job in jobs:
            results.append(_put(hand, job, now, moved))
            if isinstance(results[-1], seam.Conflict | seam.Stale):
                undo()
                return results
        _count(hand, moved)
    return results


def complete(on: sqlalchemy.Connection, job: model.Job, result: bytes | None, now: int) -> None:
    """Complete a job that was claimed as `job`. Raises ClaimLost, and what `put` raises."""
    hand = _Hand(on)
    ended = states.succeeded(job, result, now).outcome
    place = schema.sort(ended.state, job.priority, ended.run_at, ended.finished_at)
    written = (int(ended.state), place, ended.run_at, ended.attempts, ended.deaths, ended.finished_at, result)
    with hand.whole():
        *_, route, seq, _, _ = hand.named(job)
        if seq is None or hand.change(_FINISH, (*written, seq, job.fence, job.node)) != 1:
            raise errors.ClaimLost(
                "the claim is no longer held, or the connection leads to another database than the store's: roll back"
            )
        _count(hand, Counter({(route, int(model.State.RUNNING)): -1, (route, int(ended.state)): 1}))


class _Hand:
    """Statements on a user's connection, written with `%s` for values, whatever its driver takes."""

    def __init__(self, on: sqlalchemy.Connection) -> None:
        self.mysql = on.dialect.name in _MYSQL
        self.snapshot = False
        """Whether what others changed since this transaction began cannot be locked (PostgreSQL above READ COMMITTED)."""
        self.slot = 0
        """Where a connection to MySQL adds to the counts."""
        self._on = on
        self._style = on.dialect.paramstyle

    def read(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return [tuple(map(_plain, row)) for row in self._run(text, values)]

    def change(self, text: str, values: Sequence[Any] = ()) -> int:
        """Run a statement that changes rows; return how many."""
        changed: int = self._run(text, values).rowcount
        return changed

    @contextlib.contextmanager
    def whole(self, savepoint: str = "callboard") -> Iterator[Callable[[], None]]:
        """Undo what is done inside if an exception leaves it; yields what undoes it at other times."""
        try:
            self.change(f"SAVEPOINT {savepoint}")
        except exc.DBAPIError as error:
            if _NO_TRANSACTION & _codes(error):
                raise _no_transaction() from None
            raise

        def undo() -> None:
            self.change(f"ROLLBACK TO SAVEPOINT {savepoint}")

        try:
            yield undo
        except Exception:
            with contextlib.suppress(Exception):  # There may be nothing left of it to undo; what went wrong first is told.
                undo()
            raise
        self.change(f"RELEASE SAVEPOINT {savepoint}")

    def named(self, job: model.Job) -> tuple[Any, ...]:
        """Return the domain's number, the route's, and (seq, state, digest) of the job; None for what is not there.

        Makes sure first that the connection leads to a store that can be used here, and that it is in a transaction.
        """
        asked = "@@autocommit, connection_id()" if self.mysql else "current_setting('transaction_isolation'), 0"
        text = f"SELECT {asked}, s.version, s.min_reader, d.domain, r.route, j.seq, j.state, j.digest {_NAMED}"
        try:
            rows = self.read(text, job.domain, job.queue, int(job.lane), job.kind, job.version, job.id)
        except exc.DBAPIError as error:
            if not _NO_TABLE & _codes(error):
                raise
            rows = []
        if not rows:
            raise errors.StoreForeign("the connection leads to a database that is no store: use the one of store.url")
        mode, number, version, min_reader, *found = rows[0]
        if self.mysql and mode:
            raise _no_transaction()
        self.slot = writes.OWN_SLOTS + number % SLOTS
        self.snapshot = not self.mysql and mode not in ("read committed", "read uncommitted")
        if min_reader > schema.VERSION:
            raise errors.StoreTooNew(f"the store has schema {version} and needs a Callboard that reads {min_reader}: upgrade")
        if version < schema.VERSION:
            raise errors.StoreUnfit(
                f"the store has schema {version}, this Callboard writes {schema.VERSION}: run callboard migrate"
            )
        return tuple(found)

    def insert(self, table: str, columns: str, values: Sequence[Any]) -> bool:
        """Insert a row; False, and nothing has happened, when it is there already."""
        text = f"INSERT INTO {table}({columns}) VALUES ({', '.join(['%s'] * len(values))})"
        if not self.mysql:
            return self.change(f"{text} ON CONFLICT DO NOTHING", values) == 1
        try:
            self.change(text, values)
        except exc.IntegrityError as error:
            if not _DUPLICATE & _codes(error):
                raise
            return False  # The server has undone the statement.
        return True

    @property
    def current(self) -> str:
        """What ends a SELECT that is to see what is committed now, though this transaction's snapshot is older."""
        return "LOCK IN SHARE MODE" if self.mysql else "FOR SHARE"

    def _run(self, text: str, values: Sequence[Any]) -> sqlalchemy.CursorResult[Any]:
        if self.mysql:
            return self._on.exec_driver_sql(text % tuple(map(_literal, values)))
        parts = text.split("%s")
        if self._style == "numeric_dollar":
            text = parts[0] + "".join(f"${number}{part}" for number, part in enumerate(parts[1:], 1))
        return self._on.exec_driver_sql(text, tuple(values))


def _literal(value: Any) -> str:
    """Return a value as MySQL reads it, whatever characters the connection was made for and its driver makes of bytes."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    return f"_utf8mb4 x'{value.encode().hex()}'" if isinstance(value, str) else f"{value:d}"


# Putting


def _put(hand: _Hand, job: model.Job, now: int, moved: Counter[tuple[int, int]]) -> seam.Result:
    domain, route, seq, state, digest = hand.named(job)
    if seq is not None:
        return _there(job, state, digest)
    if model.expired(job.id, now):
        return seam.Stale()
    if domain is None:
        domain = _numbered(hand, "callboard_domains", "domain", {"name": job.domain})
    if route is None:
        names = {"domain": domain, "queue": job.queue, "lane": int(job.lane), "kind": job.kind, "version": job.version}
        route = _numbered(hand, "callboard_routes", "route", names)
    if not hand.insert("callboard_jobs", schema.INSERTED, schema.inserted(job, domain, route)):
        query = f"SELECT state, digest FROM callboard_jobs WHERE domain = %s AND id = %s {hand.current}"
        if not (found := hand.read(query, domain, job.id)):
            raise errors.StoreUnavailable("others put the same job and removed it again: try again")
        return _there(job, *found[0])
    for tag in job.tags:
        hand.insert("callboard_tags", "domain, tag, id", (domain, tag, job.id))
    moved[route, int(job.state)] += 1
    return seam.Created()


def _there(job: model.Job, state: int, digest: bytes | None) -> seam.Result:
    found = model.State(state)
    return seam.Same(found) if digest == job.digest else seam.Conflict(found)


def _numbered(hand: _Hand, table: str, number: str, names: dict[str, Any]) -> int:
    """Give a number to names that have none; until the transaction ends, others who do the same wait for it."""
    hand.insert(table, ", ".join(names), list(names.values()))
    found = " AND ".join(f"{name} = %s" for name in names)
    given: int = hand.read(f"SELECT {number} FROM {table} WHERE {found} {hand.current}", *names.values())[0][0]
    return given


# Counts


def _count(hand: _Hand, moved: Counter[tuple[int, int]]) -> None:
    """Add to the counts of (route, state), last: each in a slot that no other open transaction adds to."""
    for (route, state), jobs in sorted(moved.items()):
        slot = hand.slot if hand.mysql else _free(hand, route, state)
        grown = "ON DUPLICATE KEY UPDATE" if hand.mysql else "ON CONFLICT (route, state, slot) DO UPDATE SET"
        text = (
            f"INSERT INTO callboard_counts(route, state, slot, jobs) VALUES (%s, %s, %s, %s) {grown} jobs = callboard_counts.jobs"
        )
        hand.change(f"{text} + %s", (route, state, slot, jobs, jobs))


def _free(hand: _Hand, route: int, state: int) -> int:
    """Hold a slot that nobody holds, or make a new one. Not on MySQL: to pass over a lock, it would lock the gap behind it."""
    text = (
        f"SELECT slot FROM callboard_counts WHERE route = %s AND state = %s AND slot >= {writes.OWN_SLOTS}"
        " ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED"
    )
    try:
        with hand.whole("callboard_slot") if hand.snapshot else contextlib.nullcontext():
            found = hand.read(text, route, state)
    except exc.DBAPIError as error:
        if not _CHANGED_SINCE & _codes(error):
            raise
        found = []
    return int(found[0][0]) if found else random.randrange(writes.OWN_SLOTS, 1 << 31)


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else value


def _codes(error: exc.DBAPIError) -> set[str | int | None]:
    """Return what a driver's error is known by: SQLSTATE or MySQL's number, wherever the driver has it."""
    found: Any = error.orig
    first = next(iter(getattr(found, "args", ())), None)
    if isinstance(first, dict):
        first = first.get("C")
    return {getattr(found, "sqlstate", None), getattr(found, "pgcode", None), first}


def _no_transaction() -> errors.InvalidInput:
    return errors.InvalidInput("the connection commits each statement: use one without isolation_level='AUTOCOMMIT'")
