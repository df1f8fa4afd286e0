"""A line to a database: one connection at a time, which is made anew when it is lost, and knows what it committed.

Each transaction begins by writing a mark: it counts up a number in a row of the line's own. When the answer to a COMMIT is
lost, the line writes that mark on a new connection. Either it finds the old number and counts it up itself, and the lost
transaction can never commit any more; or it finds that the transaction has counted, and has thus committed. A transaction
counts by two, a settlement by one, so that a settlement whose own answer is lost is told from a transaction.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable
from typing import Final, NoReturn, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

from callboard import errors
from callboard.databases import database, wire
from callboard.databases.products import Means

T = TypeVar("T")

REACH_SECONDS: Final = 2.0
"""How long servers are tried, one round after the other, before a call ends with StoreUnavailable."""
SETTLE_SECONDS: Final = 2.0
"""How long it is tried to learn what became of a transaction."""
MOST_VICTIMS: Final = 20
MOST_LOSSES: Final = 8
AWAY_SECONDS: Final = 0.25
"""How long, after servers were tried in vain, calls end at once: those who queue for a line must not wait one after the other."""
_PAUSE_SECONDS: Final = 0.05
_TOUCH_STORE: Final = "UPDATE callboard_store SET touched = touched + 1"
_ANEW: Final = (Means.LOST, Means.AWAY, Means.READ_ONLY)
"""After these the connection is left: another server may do, or the same one after a new login."""


class Line:
    """See the module's text. One thread at a time."""

    def __init__(
        self,
        of: database.Database,
        *,
        writer: bytes | None = None,
        session: str = "",
        reach_seconds: float = REACH_SECONDS,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        """`session`: a statement that is run on each connection before it is used."""
        self._database = of
        self._session = session
        self._product = of.product
        self._writer = writer or os.urandom(16)
        self._number: int | None = None
        self._unknown: dict[bytes, int] = {}
        """Marks of transactions of which nobody knows what became, each with its number before."""
        self._reach_seconds = reach_seconds
        self._settle_seconds = settle_seconds
        self._wire: wire.Wire | None = None
        self._left = ""
        """The token of the connection that was used before."""
        self._away: tuple[float, errors.StoreUnavailable] | None = None
        """Until when calls end at once, and with which error."""

    @property
    def database(self) -> database.Database:
        return self._database

    def transact(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in one READ COMMITTED transaction and commit it; return what it returned.

        `work` may be run several times, each time in a new transaction with nothing of the former one left: it must be
        repeatable, and have no effects but on the connection and its return value.

        Raises StoreError when nothing was applied (with `data["unknown"]` true: when nobody can tell; with `data["waited"]` true:
        because another transaction held what it needed), and what `work` raises, after rolling back.
        """
        victims = losses = 0
        while True:
            try:
                return self._once(work)
            except _Again as again:
                if again.means is Means.VICTIM:
                    victims += 1
                    time.sleep(random.uniform(0.001, 0.02))
                else:
                    losses += 1
                if victims > MOST_VICTIMS or losses > MOST_LOSSES:
                    raise again.error from None

    def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` on one consistent snapshot, read only; return what it returned.

        It is run once again on a new connection when the old one is lost. Raises StoreError, and what `work` raises.
        """
        try:
            return self._read(work)
        except _Again:
            pass
        try:
            return self._read(work)
        except _Again as again:
            raise again.error from None

    def alone(self, on: sa.Connection) -> None:
        """Called inside the work of `transact`: this transaction is in conflict with all others that commit meanwhile.

        On a Galera cluster it writes every mark, so that transactions of other nodes are ordered before or after it; elsewhere
        row locks do that, and nothing needs to be written.
        """
        if self._database.galera:
            on.exec_driver_sql("UPDATE callboard_marks SET used_at = NOW(6)")
            on.exec_driver_sql(_TOUCH_STORE)

    def close(self) -> None:
        """Leave the connection, and take the line's mark away if that can be done at once. Allowed twice."""
        if self._wire is not None and self._number is not None:
            with contextlib.suppress(Exception):  # A mark that stays is removed a day later by others.
                self._wire.begin_plain()
                self._wire.on.exec_driver_sql("DELETE FROM callboard_marks WHERE writer = %s", (self._writer,))
                self._wire.commit()
        self._number = None
        self._leave()

    # One transaction

    def _once(self, work: Callable[[sa.Connection], T]) -> T:
        on = self._wired()
        try:
            number = self._begin(on)
            done = work(on.on)
            self._product.check_commit(on.raw)
        except BaseException as error:
            self._undone(on, error)
        try:
            on.commit()
        except BaseException as error:
            self._left_open(number, error)
            if _cause(error) is None:  # Somebody broke in (KeyboardInterrupt), and the connection is of no use now.
                raise
        self._number = number + 2
        return done

    def _begin(self, on: wire.Wire) -> int:
        """Begin a transaction with a mark; return the number before it."""
        while True:
            number = self._number if self._number is not None else self._make_mark(on)
            if on.begin(self._writer, number):
                return number
            on.roll_back()  # Somebody took the row away, who thought that this line was long gone.
            self._rename()

    def _undone(self, on: wire.Wire, error: BaseException) -> NoReturn:
        """Roll back, and raise what `error` means."""
        means = self._means(on, error)
        if means in _ANEW or (means is Means.BUSY and self._database.galera):  # Of its nodes, a donor keeps others waiting.
            self._leave()
        else:
            self._roll_back(on)
        if means is None or means in (Means.BUG, Means.MISSING):
            raise error
        translated = self._translated(on, error)
        if means is Means.VICTIM or means in _ANEW:
            raise _Again(means, translated) from None
        if means is Means.BUSY:
            translated.data["waited"] = True
        raise translated from None

    def _left_open(self, number: int, error: BaseException) -> None:
        """After a COMMIT that failed: return when it was done all the same, raise when it was not."""
        on = self._wire
        assert on is not None
        means = self._means(on, error)
        translated = self._translated(on, error)
        cause = _cause(error)
        if cause is not None and not self._product.open_end(cause):
            self._undone(on, error)
        self._leave()
        if self._settled(number, translated):
            return
        if means is None:
            raise error
        if means is Means.FULL or means not in (*_ANEW, Means.VICTIM):
            raise translated from None
        raise _Again(Means.LOST, translated) from None

    # What became of it

    def _settled(self, number: int, error: errors.StoreError) -> bool:
        """Whether the transaction that found `number` has committed; if not, it never will. Raises when nobody can tell."""
        deadline = time.monotonic() + self._settle_seconds
        while True:
            try:
                on = self._reached(deadline - time.monotonic())
                found = self._settle(on, number)
                break
            except _Again:
                found = None
                if time.monotonic() > deadline:
                    break
            except errors.StoreError:
                found = None
                break
        if found is None:
            self._unknown[self._writer] = number
            self._rename()
            raise errors.StoreUnavailable(f"{error.message}: nobody knows whether it committed", unknown=True)
        return found

    def _settle(self, on: wire.Wire, number: int) -> bool | None:
        try:
            on.begin_plain()
            text = "UPDATE callboard_marks SET number = number + 1 WHERE writer = %s AND number = %s"
            if on.on.exec_driver_sql(text, (self._writer, number)).rowcount == 1:
                on.commit()
                self._number = number + 1
                return False
            found = on.on.exec_driver_sql("SELECT number FROM callboard_marks WHERE writer = %s", (self._writer,)).scalar()
            on.roll_back()
        except BaseException as error:
            self._undone(on, error)
        if found == number + 1:  # A former try to settle it had come through.
            self._number = number + 1
            return False
        return True if found == number + 2 else None

    # The mark

    def _make_mark(self, on: wire.Wire) -> int:
        """Make the line's row, in a transaction of its own; return its number. Remove those that nobody uses any more."""
        try:
            number = self._upsert_mark(on)
        except exc.DBAPIError as error:
            if self._means(on, error) is not Means.MISSING:
                raise
            on.roll_back()
            self._make_table(on)
            number = self._upsert_mark(on)
        self._close_unknown(on)
        self._number = number
        self._sweep(on)
        return number

    def _make_table(self, on: wire.Wire) -> None:
        on.begin_plain()
        try:
            on.on.exec_driver_sql(self._product.marks)
            on.commit()
        except exc.DBAPIError as error:
            if self._means(on, error) is not Means.BUG:
                raise
            on.roll_back()  # On PostgreSQL it fails so, in several ways, when others make it at the same moment.

    def _close_unknown(self, on: wire.Wire) -> None:
        """See to it that what nobody knew of has committed or never will: whoever looks from now on sees the truth."""
        for writer, number in self._unknown.items():
            on.begin_plain()
            text = "UPDATE callboard_marks SET number = number + 1 WHERE writer = %s AND number = %s"
            on.on.exec_driver_sql(text, (writer, number))
            on.commit()
        self._unknown.clear()

    def _upsert_mark(self, on: wire.Wire) -> int:
        on.begin_plain()
        number = self._product.make_mark(on.on, self._writer)
        if self._database.galera:
            try:
                on.on.exec_driver_sql(_TOUCH_STORE)  # In conflict with one who is `alone`, and does not know this row yet.
            except exc.DBAPIError as error:
                if self._means(on, error) is not Means.MISSING:  # Before there is a store nobody is alone.
                    raise
        on.commit()
        return number

    def _sweep(self, on: wire.Wire) -> None:
        """Remove the rows that nobody has used for a day."""
        on.begin_plain()
        old = self._product.old_marks(on.on)
        if old:
            on.on.exec_driver_sql("DELETE FROM callboard_marks WHERE writer = %s", [(writer,) for writer in old])
        on.commit()

    def _rename(self) -> None:
        """Go on with a row of another name."""
        self._writer = os.urandom(16)
        self._number = None

    # Reading

    def _read(self, work: Callable[[sa.Connection], T]) -> T:
        on = self._wired()
        try:
            on.begin_reading()
            done = work(on.on)
        except BaseException as error:
            self._undone(on, error)
        try:
            on.commit()
        except Exception as error:
            if _cause(error) is None:
                raise
            self._leave()
        return done

    # The connection

    def _wired(self) -> wire.Wire:
        if self._wire is not None and not self._database.better(self._wire.host):
            return self._wire
        self._leave()
        if self._away is not None and time.monotonic() < self._away[0]:
            raise errors.StoreUnavailable(self._away[1].message, **self._away[1].data)
        try:
            return self._reached(self._reach_seconds)
        except errors.StoreUnavailable as error:
            self._away = time.monotonic() + AWAY_SECONDS, error
            raise

    def _reached(self, seconds: float) -> wire.Wire:
        """Return the connection, made now if there is none; servers are tried for so long, each once at least."""
        deadline = time.monotonic() + seconds
        while self._wire is None:
            try:
                self._wire = wire.Wire(self._database, self._session)
            except errors.StoreUnavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE_SECONDS)
                continue
            if self._left:
                self._wire.end_former(self._left)
                self._left = ""
        return self._wire

    def _leave(self) -> None:
        if self._wire is not None:
            self._left = self._wire.token
            self._wire.close()
            self._wire = None

    def _roll_back(self, on: wire.Wire) -> None:
        try:
            on.roll_back()
        except Exception:  # Whatever it is: the server rolls back when the connection ends.
            self._leave()

    # Errors

    def _means(self, on: wire.Wire, error: BaseException) -> Means | None:
        """What an error means; None for one that is not the driver's."""
        cause = _cause(error)
        if cause is not None:
            return self._product.means(cause)
        return Means.LOST if on.on.invalidated else None

    def _translated(self, on: wire.Wire, error: BaseException) -> errors.StoreError:
        return self._database.translated(_cause(error) or error, on.host)


class _Again(Exception):
    """Raised when nothing was applied, and the transaction may be run again."""

    def __init__(self, means: Means, error: errors.StoreError) -> None:
        super().__init__(error.message)
        self.means = means
        self.error = error


def _cause(error: BaseException) -> BaseException | None:
    """The driver's error, if it is one."""
    if isinstance(error, exc.DBAPIError):
        return error.orig
    return error if type(error).__module__.partition(".")[0] in ("MySQLdb", "psycopg") else None
