"""Every statement that reads or writes coordination; each function is what one transaction does, and may be run again.

Whoever changes entries or sessions holds the one row first (`Busy` when somebody else does), then its own session's row, then
entries. Guards alone hold only the session's row, so that a confirmation waits for nobody. Both write a new beat into that row:
who sees an old beat knows that nothing was confirmed since.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy import exc

from callboard.coordination import engine as seam
from callboard.coordination.engines import ledger
from callboard.coordination.engines.sql import ages, tables
from callboard.databases import products

AT_ONCE: Final = 1000
"""Rows in one statement."""
_SESSIONS: Final = "SELECT name, token, beat, granted_ms FROM callboard_sessions"
_BEAT: Final = "UPDATE callboard_sessions SET beat = beat + 1 WHERE name = %s AND token = %s"
_LOOK: Final = (
    "SELECT one.changes, s.name, s.token, s.beat, s.granted_ms FROM callboard_coordination one"
    " LEFT JOIN callboard_sessions s ON 1 = 1 WHERE one.id = 1"
)
_PURE = (seam.Check, seam.Absent)


class Busy(Exception):
    """Raised when another transaction holds the one row: try again soon."""


class Gone(Exception):
    """Raised when the session of `token` is over."""

    def __init__(self, token: bytes) -> None:
        super().__init__()
        self.token = token


class GivenUp(Exception):
    """Raised when nobody wants any more what is about to be committed."""


class Sight(msgspec.Struct, frozen=True):
    """What one look showed: who lives, by name; how many changes there were; which folders have changed since the look before."""

    lives: dict[str, ages.Life]
    changes: int
    folders: frozenset[str]


class Change(msgspec.Struct, frozen=True):
    """What a transaction did: results of operations, folders that changed, and which of all changes it was (0: none)."""

    results: list[int] = []
    folders: frozenset[str] = frozenset()
    changes: int = 0


class Book:
    """In the words of one product. `on` is a connection, in a READ COMMITTED transaction where something is written; `name` and
    `token` are those of the session that does it: Gone when that is over."""

    def __init__(self, product: products.Product) -> None:
        self._product = product
        self._words = tables.WORDS[product.name]
        self.patient = True
        """Whether to wait for one's turn to change something, rather than to be Busy at once."""

    def begin(self, on: sa.Connection, mine: ages.Life) -> ages.Life | None:
        """Enter a session, or return the one that has its name."""
        one = self._held(on)
        found = self._live(on, mine.name)
        if found is not None:
            return found if found.token != mine.token else None
        insert = "INSERT INTO callboard_sessions (name, token, beat, granted_ms) VALUES (%s, %s, %s, %s)"
        on.exec_driver_sql(insert, (mine.name, mine.token, mine.beat, mine.granted_ms))
        self._changed(on, one, {seam.SESSIONS})
        return None

    def beat(self, on: sa.Connection, name: str, token: bytes) -> None:
        """Say that a session lives."""
        if on.exec_driver_sql(_BEAT, (name, token)).rowcount != 1:
            raise Gone(token)

    def apply(self, on: sa.Connection, name: str, token: bytes, operations: Sequence[seam.Operation]) -> Change:
        """Apply operations. Raises CoordinationConflict."""
        changing = not all(isinstance(each, _PURE) for each in operations)
        one = self._held(on) if changing else _One(0, 0)
        self.beat(on, name, token)
        there = _there(on, sorted({each.path for each in operations}), bodies=changing)
        outcome = ledger.apply(there, operations, name, one.number)
        if not changing:
            return Change(outcome.results)
        _write(on, there, outcome.changed)
        folders = {path.partition("/")[0] for path in outcome.changed}
        return self._changed(on, _One(outcome.number, one.changes), folders, outcome.results)

    def end(self, on: sa.Connection, name: str, token: bytes, other: str) -> Change:
        """End another session, by its name, if there is one."""
        one = self._held(on)
        self.beat(on, name, token)
        life = self._live(on, other)
        return self._ended(on, one, life) if life is not None else Change()

    def expire(self, on: sa.Connection, life: ages.Life) -> Change:
        """End a session that is silent, unless it has said something since `life` was seen."""
        one = self._held(on)
        return self._ended(on, one, life) if life == self._live(on, life.name) else Change()

    def leave(self, on: sa.Connection, name: str, token: bytes) -> Change:
        """End one's own session."""
        one = self._held(on)
        life = self._live(on, name)
        return self._ended(on, one, life) if life is not None and life.token == token else Change()

    def look(self, on: sa.Connection, seen: int) -> Sight:
        """Return what there is to be seen, and the folders that changed after the change `seen`; later ones may be among them."""
        rows = _rows(on, _LOOK)
        changes = rows[0][0] if rows else 0
        folders: Collection[str] = ()
        if changes != seen:
            since = seen if seen < changes else -1  # The database was set back: everything may have changed.
            found = on.exec_driver_sql("SELECT folder FROM callboard_folders WHERE changes > %s", (since,))
            folders = {row[0] for row in found}
        lives = [_life(row[1:]) for row in rows if row[1] is not None]
        return Sight({life.name: life for life in lives}, changes, frozenset(folders))

    def entries(self, on: sa.Connection, folder: str) -> list[seam.Entry]:
        """Return a folder's entries by path."""
        rows = on.exec_driver_sql("SELECT path, body, number, session FROM callboard_entries WHERE folder = %s", (folder,))
        return sorted((_entry(row) for row in rows), key=lambda entry: entry.path)

    def sessions(self, on: sa.Connection) -> set[str]:
        """Return the names of the sessions that live."""
        return {row[0] for row in on.exec_driver_sql("SELECT name FROM callboard_sessions")}

    def _held(self, on: sa.Connection) -> _One:
        """Hold the one row. Raises Busy."""
        if not self.patient:
            row = on.exec_driver_sql(tables.LOCK).first()
            if row is None:
                raise Busy
            return _One(row[0], row[1])
        if self._words.patience:
            on.exec_driver_sql(self._words.patience)
        try:
            row = on.exec_driver_sql(tables.WAIT).one()
        except exc.DBAPIError as error:
            if error.orig is not None and self._product.means(error.orig) is products.Means.BUSY:
                raise Busy from None
            raise
        return _One(row[0], row[1])

    def _live(self, on: sa.Connection, name: str) -> ages.Life | None:
        """Return the session of a name, as it is now."""
        row = on.exec_driver_sql(f"{_SESSIONS} WHERE name = %s", (name,)).first()
        return _life(row) if row is not None else None

    def _ended(self, on: sa.Connection, one: _One, life: ages.Life) -> Change:
        """Remove a session and what it holds. Raises Busy when it beats just now: whoever is frozen with that holds nobody up."""
        same = "WHERE name = %s AND token = %s AND beat = %s"
        key = life.name, life.token, life.beat
        if on.exec_driver_sql(f"{_SESSIONS} {same} FOR UPDATE SKIP LOCKED", key).first() is None:
            raise Busy
        on.exec_driver_sql(f"DELETE FROM callboard_sessions {same}", key)
        found = on.exec_driver_sql("SELECT DISTINCT folder FROM callboard_entries WHERE session = %s", (life.name,))
        folders = {row[0] for row in found}
        if folders:
            on.exec_driver_sql("DELETE FROM callboard_entries WHERE session = %s", (life.name,))
        return self._changed(on, one, folders | {seam.SESSIONS})

    def _changed(self, on: sa.Connection, one: _One, folders: set[str], results: list[int] | None = None) -> Change:
        """Write down that folders change, and the last number that was given."""
        changes = one.changes + 1
        update = "UPDATE callboard_coordination SET number = %s, changes = %s WHERE id = 1"
        on.exec_driver_sql(update, (one.number, changes))
        for some in _some(sorted(folders)):
            where = f"WHERE folder IN {_list(some)}"
            found = on.exec_driver_sql(f"UPDATE callboard_folders SET changes = %s {where}", (changes, *some)).rowcount
            if found < len(some):
                on.exec_driver_sql(f"DELETE FROM callboard_folders {where}", tuple(some))
                _insert(on, "callboard_folders (folder, changes)", [(folder, changes) for folder in some])
        return Change(results or [], frozenset(folders), changes)


class _One(msgspec.Struct, frozen=True):
    """The one row."""

    number: int
    changes: int


def _there(on: sa.Connection, paths: Sequence[str], *, bodies: bool) -> dict[str, seam.Entry]:
    """Return the entries at some paths; with an empty content where none is needed."""
    columns = "path, body, number, session" if bodies else "path, '', number, session"
    found = {}
    for some in _some(paths):
        rows = on.exec_driver_sql(f"SELECT {columns} FROM callboard_entries WHERE path IN {_list(some)}", tuple(some))
        found.update({row[0]: _entry(row) for row in rows})
    return found


def _write(on: sa.Connection, there: Collection[str], changed: Mapping[str, seam.Entry | None]) -> None:
    for some in _some(sorted(changed)):
        if old := [path for path in some if path in there]:
            on.exec_driver_sql(f"DELETE FROM callboard_entries WHERE path IN {_list(old)}", tuple(old))
        new = [entry for path in some if (entry := changed[path]) is not None]
        rows = [(each.path, each.path.partition("/")[0], each.body, each.number, each.session) for each in new]
        _insert(on, "callboard_entries (path, folder, body, number, session)", rows)


def _insert(on: sa.Connection, where: str, rows: Sequence[Sequence[Any]]) -> None:
    if rows:
        values = ", ".join([_list(rows[0])] * len(rows))
        on.exec_driver_sql(f"INSERT INTO {where} VALUES {values}", tuple(value for row in rows for value in row))


def _list(values: Sequence[Any]) -> str:
    return f"({', '.join(['%s'] * len(values))})"


def _some(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(values), AT_ONCE):
        yield values[first : first + AT_ONCE]


def _rows(on: sa.Connection, statement: str) -> Sequence[Sequence[Any]]:
    """Ask by the driver's own cursor: what is asked five times a second at rest is to cost half."""
    cursor = on.connection.cursor()
    try:
        cursor.execute(statement)
        return cursor.fetchall()
    finally:
        cursor.close()


def _life(row: Sequence[Any]) -> ages.Life:
    name, token, beat, granted_ms = row
    return ages.Life(name, bytes(token), beat, granted_ms)


def _entry(row: Sequence[Any]) -> seam.Entry:
    path, body, number, session = row
    return seam.Entry(path, body if isinstance(body, bytes) else b"", number, session)
