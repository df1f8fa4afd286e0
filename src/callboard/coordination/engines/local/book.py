"""The directory: what is in it, and who may change it. Everything here blocks, and raises OSError as the disk does; the engine
calls it from threads.

`book.json` holds all entries and the last number. It is replaced whole, under the lock of `lock`: a reader needs no lock, and a
process that dies half-way has changed nothing. It is synced, and its directory, before anybody hears of the change: numbers must
not be given twice and lasting entries not be forgotten, not even when the machine loses power. Where a change makes no
difference nothing is written.

`sessions/` holds a locked file for each session (`coordination.sessions`). What the book says of a session whose lock is free is
void; the next one to write clears it away.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from callboard import errors
from callboard.coordination import engine as seam
from callboard.coordination import sessions
from callboard.coordination.engines import ledger
from callboard.kit import files

BOOK: Final = "book.json"
LOCK: Final = "lock"
SESSIONS: Final = "sessions"
VERSION: Final = 1
WAIT_SECONDS: Final = 5.0
"""How long a change waits for another process's: that one is frozen, and whoever watches over it kills it sooner."""
_POLL_SECONDS = (0.0002, 0.0005, 0.001, 0.002, 0.005)
_FLOCK = struct.Struct("@hhqqi4x")


class Gone(Exception):
    """Raised inside: the session was ended by another process."""


class Begun(msgspec.Struct, frozen=True):
    """A session of this process: its lock, and its number in the book."""

    lock: sessions.ProcessSession
    number: int


class Contents(msgspec.Struct, forbid_unknown_fields=False):
    """What the book says."""

    coordination: int
    """Version of this format; a field of this name tells that the file is a book."""
    number: int
    """The last one given, to an entry or a session."""
    sessions: dict[str, int]
    """Their numbers, by name."""
    entries: dict[str, seam.Entry]
    changes: dict[str, int]
    """How often a folder was changed."""


class Sight(msgspec.Struct, frozen=True):
    """What is true now: of the book, what belongs to live sessions."""

    entries: Mapping[str, seam.Entry]
    sessions: Mapping[str, int]
    changes: Mapping[str, int]

    def folders(self) -> dict[str, object]:
        """Return a value for each folder, another one when anything in it changed."""
        holders: dict[str, set[str]] = {}
        for path, entry in self.entries.items():
            holders.setdefault(path.partition("/")[0], set()).add(entry.session or "")
        found: dict[str, object] = {folder: (n, holders.get(folder, set())) for folder, n in self.changes.items()}
        return found | {seam.SESSIONS: dict(self.sessions)}


class Book:
    """One process's hand on the directory; `begin` comes first. Methods may run in several threads at once."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.sessions = directory / SESSIONS
        self._processes: sessions.ProcessSessions | None = None
        self._path = directory / BOOK

    def begin(self, name: str, before: sessions.ProcessSession | None = None) -> Begun:
        """Begin a session; return its lock and its number. `before` is the same process's, of this name, which is over.

        Raises AlreadyRunning, DataUnusable, CoordinationUnavailable, OSError.
        """
        if before is not None:
            before.close()
        self._processes = processes = sessions.ProcessSessions(self.sessions)
        with self._locked():
            contents = self._read(new=True)
            if contents.sessions.keys() - processes.sessions():
                self._drop(contents)
                self._write(contents)  # Before a file is locked again: what a dead one said must not come true anew.
            made = processes.session(name)
            try:
                contents.number += 1
                contents.sessions[name] = contents.number
                self._write(contents)
            except BaseException:
                made.close()
                raise
            processes.sweep()
        return Begun(made, contents.number)

    def look(self) -> Sight:
        """Read what is true now. Raises DataUnusable, OSError."""
        return self._sight(self._read())

    def apply(self, name: str, session: int, operations: Sequence[seam.Operation]) -> list[int]:
        """Raises CoordinationConflict, CoordinationUnavailable, Gone, DataUnusable, OSError."""
        if not changes(operations):
            # The book was true as a whole when it was opened: whoever is frozen with the lock in hand holds no one up.
            contents = self._of(name, session)
            return ledger.apply(self._sight(contents).entries, operations, name, contents.number).results
        with self._locked():
            contents = self._of(name, session)
            outcome = ledger.apply(self._sight(contents).entries, operations, name, contents.number)
            self._drop(contents)
            contents.number = outcome.number
            for path, entry in outcome.changed.items():
                _put(contents, path, entry)
            self._write(contents)
        return outcome.results

    def end(self, name: str) -> None:
        """Clear away a session's entries, if they are not void already. Raises as `look` and `apply`."""
        if name in self.look().sessions:
            with self._locked():
                contents = self._read()
                self._drop(contents, {name})
                self._write(contents)

    def _of(self, name: str, session: int) -> Contents:
        contents = self._read()
        if contents.sessions.get(name) != session:
            raise Gone
        return contents

    def _sight(self, contents: Contents) -> Sight:
        live = self._processes.sessions() if self._processes is not None else ()
        known = {name: number for name, number in contents.sessions.items() if name in live}
        entries = {path: each for path, each in contents.entries.items() if each.session is None or each.session in known}
        return Sight(entries, known, contents.changes)

    def _drop(self, contents: Contents, also: set[str] | None = None) -> None:
        """Clear away the sessions that are over, with their entries."""
        known = self._sight(contents).sessions.keys() - (also or set())
        contents.sessions = {name: number for name, number in contents.sessions.items() if name in known}
        for path, entry in tuple(contents.entries.items()):
            if entry.session is not None and entry.session not in known:
                _put(contents, path, None)

    def _read(self, *, new: bool = False) -> Contents:
        try:
            body = self._path.read_bytes()
        except FileNotFoundError:
            if new:  # The number of a book that replaces a lost one must be past that one's: seconds are more than offices.
                return Contents(VERSION, int(time.time()), {}, {}, {})
            raise
        try:
            contents = _decode(body)
        except msgspec.MsgspecError as error:
            raise errors.DataUnusable(
                f"{self._path} is damaged or foreign ({error}): stop what runs here and remove it"
            ) from None
        if contents.coordination != VERSION:
            why = f"is of version {contents.coordination}, this Callboard reads {VERSION}"
            raise errors.DataUnusable(f"{self._path} {why}: use the newer release, or another directory")
        return contents

    def _write(self, contents: Contents) -> None:
        files.write_private(self._path, _encode(contents), durable=True)
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self.directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        _descriptors.add(descriptor)
        try:
            self._wait_for(descriptor)
            yield
        finally:
            if descriptor in _descriptors:  # Not in a forked child, which closed its copy.
                _descriptors.discard(descriptor)
                _lock(descriptor, fcntl.F_UNLCK)  # A child that was forked just now may have a copy open.
                os.close(descriptor)

    def _wait_for(self, descriptor: int) -> None:
        over = time.monotonic() + WAIT_SECONDS
        tries = 0
        while not _lock(descriptor, fcntl.F_WRLCK):
            if time.monotonic() > over:
                why = (
                    f"{self.directory / LOCK} was locked for {WAIT_SECONDS:g} s: wake or kill the process that is frozen with it"
                )
                raise errors.CoordinationUnavailable(why)
            time.sleep(_POLL_SECONDS[min(tries, len(_POLL_SECONDS) - 1)])
            tries += 1


def changes(operations: Sequence[seam.Operation]) -> bool:
    """Tell whether operations are more than guards: only then the lock is needed."""
    return not all(isinstance(each, seam.Check | seam.Absent) for each in operations)


def _put(contents: Contents, path: str, entry: seam.Entry | None) -> None:
    folder = path.partition("/")[0]
    contents.changes[folder] = contents.changes.get(folder, 0) + 1
    if entry is None:
        contents.entries.pop(path, None)
    else:
        contents.entries[path] = entry


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, 0, 0, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Contents).decode
_descriptors: set[int] = set()
"""Those of locks that are held or waited for, so that a forked child can close its copies."""


def _after_fork() -> None:
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()


os.register_at_fork(after_in_child=_after_fork)
