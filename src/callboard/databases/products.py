"""What differs between products: the seam that `mysql` and `postgresql` fill, and the words they share.

`raw` is a driver's own connection throughout.
"""

from __future__ import annotations

import enum
import re
from typing import Any, Protocol

import msgspec
import sqlalchemy as sa

from callboard import errors
from callboard.kit import urls


class Means(enum.Enum):
    """What an error of a driver means to a transaction."""

    VICTIM = "the server chose it to end a conflict: it is rolled back, and may be run again at once"
    LOST = "the connection is gone"
    AWAY = "the server answers and cannot work for now"
    BUSY = "it waited too long for a lock"
    FULL = "no space is left"
    REFUSED = "the user may not do that"
    UNFIT = "the server is set so that it cannot be done"
    READ_ONLY = "the server does not write any more"
    MISSING = "a table does not exist"
    BUG = "a statement is wrong, or what it would store"


ERRORS = {
    Means.FULL: errors.StoreFull,
    Means.REFUSED: errors.StoreRefused,
    Means.UNFIT: errors.StoreUnfit,
    Means.READ_ONLY: errors.StoreUnfit,
}
"""The error for a meaning; StoreUnavailable for all others."""


class Server(msgspec.Struct, frozen=True):
    """What one server said of itself when it was connected to."""

    version: str
    galera: bool = False
    away: str = ""
    """Why it cannot work just now; empty when it can."""
    unfit: str = ""
    """Why it cannot work until somebody changes it."""
    forgetful: bool = False
    """Commits are acknowledged before they are durable, unless a session asks for it."""
    reluctant: bool = False
    """It can, and another one should be taken if there is one."""


class Level(enum.StrEnum):
    """How much a finding matters."""

    FIT = "fit"
    WARNING = "warning"
    UNFIT = "unfit"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at: what was found, and how it is mended (empty when nothing needs to be)."""

    level: Level
    what: str
    mend: str = ""


def numbers(version: str) -> tuple[int, ...]:
    """The first two numbers of a version."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


class Product(Protocol):
    """One product, for one address."""

    name: str
    marks: str
    """The statement that creates the table callboard_marks unless it exists."""
    url: str
    """What SQLAlchemy's engine is made with, beside a way to connect."""

    def engine_options(self) -> dict[str, Any]:
        """Return more arguments for SQLAlchemy's engine."""

    def greets(self, host: urls.Host, seconds: float) -> bool:
        """Whether a server answers there within so many seconds, on a new connection. Raises socket.gaierror."""

    def alive(self, host: urls.Host) -> bool:
        """Whether a server that does not answer a statement answers anything at all. Raises socket.gaierror."""

    def connect(self, host: urls.Host) -> Any:
        """Log in. Raises the driver's errors."""

    def examine(self, raw: Any) -> Server:
        """Ask a server what it is, on a connection that was just made."""

    def prepare(self, raw: Any, server: Server) -> None:
        """Set what our sessions need."""

    def take_over(self, raw: Any) -> None:
        """From now on transactions begin with `begin`, `begin_plain` or `begin_reading` alone."""

    def token(self, raw: Any) -> str:
        """By which the server knows this connection, and no other one; empty when it knows none."""

    def end(self, raw: Any, token: str) -> None:
        """Let the server end a connection that we have lost, if it has it still: its locks are in the way."""

    def descriptor(self, raw: Any) -> int:
        """The file descriptor of the connection's socket."""

    def begin(self, raw: Any, writer: bytes, number: int) -> bool:
        """Begin a READ COMMITTED transaction by writing a mark: add 2 to its number, if that is `number`. Tell whether it was."""

    def begin_reading(self, raw: Any) -> None:
        """Begin a transaction that reads one snapshot."""

    def begin_plain(self, raw: Any) -> None:
        """Begin a READ COMMITTED transaction."""

    def commit(self, raw: Any) -> None:
        """Commit."""

    def check_commit(self, raw: Any) -> None:
        """Raise the driver's error when nothing would be committed, though nobody would say so."""

    def make_mark(self, on: sa.Connection, writer: bytes) -> int:
        """Make a mark's row, or count it up by one if it is there; return its number."""

    def old_marks(self, on: sa.Connection) -> list[bytes]:
        """Return the writers of marks that were not written for a day."""

    def open_end(self, error: BaseException) -> bool:
        """Whether an error of COMMIT leaves open what became of the transaction."""

    def means(self, error: BaseException) -> Means:
        """What a driver's error means."""

    def told(self, error: BaseException) -> str:
        """A driver's error in one line."""

    def mend(self, error: BaseException) -> str:
        """What helps against it, or nothing."""

    def findings(self, on: sa.Connection, server: Server) -> list[Finding]:
        """Look at everything that matters for being fit."""
