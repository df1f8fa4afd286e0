"""The seam to what coordinates a site: sessions, and the entries that are true as long as their session lives.

An engine stores; who may hold an office and when is decided in `election` and acted on in `presence`. Everything is
asynchronous and belongs to one event loop; no call blocks it. No driver's exception leaves an engine.

**Entries** have a path `folder/name` (one level: `nodes/0192…`, `active/billing.main`). An entry belongs to the session that
created it and vanishes with it, or is *lasting* and belongs to nobody. Its `number` is given when it is created and is greater
than every number given before at this site, whatever was removed, restarted or re-elected since: an epoch is the number of an
`active/` entry. (Entries that one `apply` creates may share a number.)

**Operations** are applied with `apply`, all or none, each in sight of those before it. Guards are operations, too. Order: what
one session applied, it sees at its next read; two sessions agree on the order of all operations.

**Sessions** end by `close`, by `end` from another session (which says that the process is dead, and must know it), or because
the engine heard nothing of them for `granted_seconds`. Whether its own session still lives, a process knows only up to its
last confirmed round trip: `apply` with at least one operation is such a round trip (a read is not: it may be answered by a
replica that lags).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

import msgspec

from callboard import errors

MAX_BYTES: Final = 512 << 10
"""Paths and bodies of one `apply` together; ZooKeeper takes no more than 1 MiB with all that it adds."""
SESSIONS: Final = "sessions"
"""The folder that is watched for sessions that come and go. It has no entries."""
_path = re.compile(r"[a-z0-9-]{1,64}/[a-z0-9][a-z0-9._-]{0,254}")
_session = re.compile(r"[a-z0-9][a-z0-9.-]{0,127}")


class Entry(msgspec.Struct, frozen=True):
    """A fact: `path`, its content, the number of its creation, and the session that holds it (None: lasting)."""

    path: str
    body: bytes
    number: int
    session: str | None = None

    @property
    def name(self) -> str:
        """The part of the path after the folder."""
        return self.path.partition("/")[2]


class Create(msgspec.Struct, frozen=True):
    """Create an entry of this session, or a lasting one. Result: its number. Conflict when the path exists."""

    path: str
    body: bytes
    lasting: bool = False


class Replace(msgspec.Struct, frozen=True):
    """Write new content into an entry; its number and its session stay. Conflict when it is gone or has another number or,
    if `expected` is given, other content: compare and set. Result: its number."""

    path: str
    body: bytes
    number: int
    expected: bytes | None = None


class Remove(msgspec.Struct, frozen=True):
    """Remove an entry, whoever holds it. Conflict when it is gone or has another number. Result: its number."""

    path: str
    number: int


class Check(msgspec.Struct, frozen=True):
    """Guard: the entry exists and has this number. Result: its number."""

    path: str
    number: int


class Absent(msgspec.Struct, frozen=True):
    """Guard: there is no entry at the path. Result: 0."""

    path: str


Operation = Create | Replace | Remove | Check | Absent


def check(operations: Sequence[Operation]) -> None:
    """What every engine does first in `apply`. Raises InvalidName, TooLarge."""
    size = 0
    for operation in operations:
        if not _path.fullmatch(operation.path) or operation.path.startswith(f"{SESSIONS}/"):
            raise errors.InvalidName(f"path {operation.path!r:.80} is not 'folder/name' of a-z, 0-9, '-', '_' and '.'")
        size += len(operation.path) + (len(operation.body) if isinstance(operation, Create | Replace) else 0)
    if size > MAX_BYTES:
        why = f"{size} bytes for coordination, which takes {MAX_BYTES} at once: keep big things elsewhere"
        raise errors.TooLarge(why, limit=MAX_BYTES)


def check_session(name: str) -> str:
    """Return a session's name. Raises InvalidName."""
    if not _session.fullmatch(name):
        raise errors.InvalidName(f"session {name!r:.80} is not a name: use 1 to 128 of a-z, 0-9, '.' and '-'")
    return name


class State(enum.Enum):
    """What a session knows of itself."""

    CONNECTED = "connected"
    SUSPENDED = "suspended"
    """Out of reach: the session may live or not. By itself this forbids nothing but taking office."""
    LOST = "lost"
    """Over, and with it all its entries. The engine begins a new one by itself and says CONNECTED; what was in it must be
    created again."""


class Session(Protocol):
    """One process's part in coordination. All methods on the event loop that began it, concurrently as one likes."""

    @property
    def name(self) -> str:
        """Its name; only one live session has it."""

    @property
    def granted_seconds(self) -> float:
        """How long the engine waits for a silent session before its entries vanish, as granted, not as asked for."""

    @property
    def state(self) -> State: ...

    async def apply(self, operations: Sequence[Operation]) -> list[int]:
        """Apply all or none; durable and visible to all on return. Returns a number for each.

        Raises CoordinationConflict (`data`: `path`, `index` of the first guard that failed), CoordinationUnavailable (unknown
        whether it was applied), TooLarge before anything is sent.
        """

    async def entries(self, folder: str) -> list[Entry]:
        """Return a folder's entries by path; a folder without entries is empty, not an error. Raises CoordinationUnavailable."""

    async def sessions(self) -> Collection[str]:
        """Return the names of the sessions that live. Raises CoordinationUnavailable."""

    def watch(self, folder: str, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed()` on the loop soon after anything in the folder changed, and after each return to CONNECTED.

        Level, not edge: several changes may be one call, and there may be a call too many; never one too few. The folder
        `sessions` is watched for sessions that come and go. Returns what ends the watch.
        """

    def follow(self, told: Callable[[State], None]) -> Callable[[], None]:
        """Call `told(state)` on the loop at each change of `state`. Returns what ends it."""

    async def end(self, name: str) -> None:
        """End another session, whose process is dead as the caller knows for certain: its entries vanish now.

        Nothing happens when there is none. Raises CoordinationUnavailable.
        """

    async def close(self) -> None:
        """End the session; its entries are gone. Allowed twice. Never raises."""


class Engine(Protocol):
    """The coordination of one site."""

    name: str

    async def session(self, name: str) -> Session:
        """Begin a session. Raises AlreadyRunning while a live one has this name, CoordinationUnavailable, DataUnusable."""

    async def close(self) -> None:
        """Let go of everything; sessions are closed before. Allowed twice."""
