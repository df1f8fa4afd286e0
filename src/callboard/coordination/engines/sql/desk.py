"""What a session does at its database: blocking, on one line, by one thread at a time.

It remembers what the last look showed, so that it can tell what changed since, who is silent, and when its own beat is due.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import sqlalchemy as sa

from callboard.coordination import engine as seam
from callboard.coordination.engines.sql import ages, book, tables
from callboard.databases import database as databases
from callboard.databases import line as lines

T = TypeVar("T")
BEAT_SHARE: Final = 1 / 5
"""The part of the granted time after which a session that has confirmed nothing says that it lives."""
BEAT_SECONDS: Final = 2.0
"""The same at the most: who wants a name that is taken need not wait for long to learn that it is."""
REACH_SECONDS: Final = 1.0
"""How long one request looks for a server before it is given up."""


class Desk:
    """Of one session, over all its lives."""

    def __init__(self, database: databases.Database, name: str, granted_seconds: float) -> None:
        words = tables.WORDS[database.product.name]
        self.name = name
        self.granted_seconds = granted_seconds
        self._words = words
        self._book = book.Book(database.product)
        self._line = lines.Line(database, session=words.session, reach_seconds=REACH_SECONDS)
        self._ages = ages.Ages()
        self._seen = -1
        self._token: bytes | None = None
        self._beaten = 0.0
        self._news: frozenset[str] = frozenset()
        self.wanted: Callable[[], bool] = lambda: True
        """Whether somebody waits for what is done now. What has waited for too long itself is not committed: GivenUp."""
        self.patient = False
        """Whether what is done now may wait for its turn; else it is Busy at once."""

    def prepare(self) -> None:
        """Make the tables unless they are there. Raises StoreError, DataUnusable."""
        tables.ensure(self._line, self._words)

    def begin(self, token: bytes) -> ages.Life | None:
        """Begin a life, or return the one that has the name. Raises StoreError, Busy."""
        mine = ages.Life(self.name, token, 1, round(self.granted_seconds * 1000))
        began = time.monotonic()
        rival = self._transact(lambda on: self._book.begin(on, mine))
        if rival is None:
            self._token, self._beaten = token, began
        return rival

    def apply(self, token: bytes, operations: Sequence[seam.Operation]) -> list[int]:
        """Apply operations in a life; return their results. Raises StoreError, Busy, Gone, CoordinationConflict."""
        began = time.monotonic()
        done = self._transact(lambda on: self._book.apply(on, self.name, token, operations))
        self._beaten = began
        self._know(done)
        return done.results

    def end(self, token: bytes, other: str) -> None:
        """End another session, in a life of one's own. Raises StoreError, Busy, Gone."""
        self._know(self._transact(lambda on: self._book.end(on, self.name, token, other)))

    def expire(self, life: ages.Life) -> None:
        """End a session unless it has said something since. Raises StoreError, Busy."""
        self._know(self._transact(lambda on: self._book.expire(on, life)))

    def leave(self) -> None:
        """End one's own life, if there is one. Raises StoreError, Busy."""
        token = self._token
        if token is not None:
            self._transact(lambda on: self._book.leave(on, self.name, token))
            self._token = None

    def entries(self, folder: str) -> list[seam.Entry]:
        """Raises StoreError."""
        return self._line.read(lambda on: self._book.entries(on, folder))

    def sessions(self) -> set[str]:
        """Raises StoreError."""
        return self._line.read(self._book.sessions)

    def tend(self) -> None:
        """Beat if that is due, look, end who is silent. Raises StoreError, Gone."""
        token = self._token
        if token is None:
            return
        began = time.monotonic()
        due = began - self._beaten >= min(self.granted_seconds * BEAT_SHARE, BEAT_SECONDS)
        self._take_in(self._beat_and_look(token) if due else self._look(), token)
        if due:
            self._beaten = began

    def news(self) -> frozenset[str]:
        """Return the folders that changed since this was asked last, as far as it is known."""
        news, self._news = self._news, frozenset()
        return news

    def close(self) -> None:
        """Allowed twice."""
        self._line.close()

    def _transact(self, work: Callable[[sa.Connection], T]) -> T:
        self._book.patient = self.patient

        def wanted(on: sa.Connection) -> T:
            done = work(on)
            if not self.wanted():
                raise book.GivenUp
            return done

        return self._line.transact(wanted)

    def _look(self) -> book.Sight:
        seen = self._seen
        return self._line.read(lambda on: self._book.look(on, seen))

    def _beat_and_look(self, token: bytes) -> book.Sight:
        seen = self._seen

        def both(on: sa.Connection) -> book.Sight:
            self._book.beat(on, self.name, token)
            return self._book.look(on, seen)

        return self._transact(both)

    def _take_in(self, sight: book.Sight, token: bytes) -> None:
        self._seen = sight.changes
        self._news |= sight.folders
        mine = sight.lives.pop(self.name, None)
        if mine is None or mine.token != token:
            raise book.Gone(token)
        for life in self._ages.look(sight.lives.values(), time.monotonic()):
            try:
                self.expire(life)
            except book.Busy:
                break  # Somebody may be ending it just now; the next look tells.

    def _know(self, done: book.Change) -> None:
        """Take note of a change of one's own, which the next look need not tell again."""
        self._news |= done.folders
        if done.changes and self._seen == done.changes - 1:
            self._seen = done.changes
