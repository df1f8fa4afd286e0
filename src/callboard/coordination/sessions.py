"""Which processes of one machine live, told by a locked file each, and what they say of themselves. The kernel frees the lock
when the process ends, however it ends: no clock, no lease, no disk write at rest.

`NAME.lock` is held locked, `NAME.json` beside it holds the entries. The lock is an open file description lock, because such a
lock can be asked about without being taken (F_OFD_GETLK): no reader is ever mistaken for a holder. A forked child inherits the
description and would keep a dead parent's session alive: it closes its copy at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
import weakref
from pathlib import Path

import msgspec

from callboard import errors

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,127}")
_FLOCK = struct.Struct("@hhqqi4x")
"""struct flock of 64-bit Linux: type, whence, start, length, pid."""
_ALL_OF_IT = (os.SEEK_SET, 0, 0, 0)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, bytes]).decode


class Entry(msgspec.Struct, frozen=True):
    """A fact that somebody alive put: `path` (like `nodes/<hex>`), its content, and the name of the session that holds it."""

    path: str
    body: bytes
    session: str


class ProcessSessions:
    """Sessions in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(directory, error) from None

    def session(self, name: str) -> ProcessSession:
        if not _NAME.fullmatch(name):
            raise errors.InvalidName(f"session {name!r:.80} is not a name: use a-z, 0-9, '.' and '-'")
        path = self._directory / f"{name}.lock"
        try:
            while (descriptor := _locked(path)) is None:
                pass  # The file was removed between opening and locking it: by its former holder, or as one left over.
        except OSError as error:
            raise _unusable(self._directory, error) from None
        if descriptor < 0:
            raise errors.AlreadyRunning(f"{name!r} lives already, as {path} shows: stop that one, or use another directory")
        return ProcessSession(name, path, descriptor)

    def sessions(self) -> set[str]:
        try:
            names = [entry.name[:-5] for entry in os.scandir(self._directory) if entry.name.endswith(".lock")]
            return {name for name in names if _held(self._directory / f"{name}.lock")}
        except OSError as error:  # As when descriptors run out: nobody is declared dead for that.
            raise _unusable(self._directory, error) from None

    def entries(self, prefix: str) -> list[Entry]:
        found = []
        for name in self.sessions():
            for path, body in _read(self._directory / f"{name}.json").items():
                if path.startswith(prefix):
                    found.append(Entry(path, body, name))
        return sorted(found, key=lambda entry: entry.path)

    def sweep(self) -> None:
        """Remove the files that dead sessions left. Called by the agent now and then."""
        for path in self._directory.glob("*.lock"):
            with contextlib.suppress(OSError):
                descriptor = _locked(path)
                if descriptor is not None and descriptor >= 0:
                    ProcessSession(path.stem, path, descriptor).close()


class ProcessSession:
    """A held lock. Its entries are written as one file, replaced whole; they need not survive anything, so nothing is synced."""

    def __init__(self, name: str, path: Path, descriptor: int) -> None:
        self._name = name
        self._path = path
        self._descriptor = descriptor
        self._facts = path.with_suffix(".json")
        self._facts.unlink(missing_ok=True)
        self._entries: dict[str, bytes] = {}
        _open.add(self)

    @property
    def name(self) -> str:
        return self._name

    def put(self, path: str, body: bytes) -> None:
        self._entries[path] = body
        self._write()

    def remove(self, path: str) -> None:
        if self._entries.pop(path, None) is not None:
            self._write()

    def close(self) -> None:
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                if _is_at(self._descriptor, self._path):  # Else the directory was replaced: these are another one's.
                    self._facts.unlink(missing_ok=True)
                    self._path.unlink(missing_ok=True)
            self.forget()

    def forget(self) -> None:
        """Close the descriptor, and leave the files to whoever holds the lock."""
        _open.discard(self)
        os.close(self._descriptor)
        self._descriptor = -1

    def _write(self) -> None:
        if self._descriptor < 0:
            return  # Closed: there is nobody to say anything.
        made = self._facts.with_suffix(".json-new")
        try:
            made.write_bytes(_encode(self._entries))
            made.replace(self._facts)
        except OSError as error:
            raise _unusable(self._path.parent, error) from None


def _locked(path: Path) -> int | None:
    """Return a descriptor that holds the lock, -1 when somebody else does, None when the file was replaced meanwhile."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, *_ALL_OF_IT))
        if _is_at(descriptor, path):
            return descriptor
    except (BlockingIOError, PermissionError):
        os.close(descriptor)
        return -1
    os.close(descriptor)
    return None


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, *_ALL_OF_IT))
    finally:
        os.close(descriptor)
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def _read(path: Path) -> dict[str, bytes]:
    try:
        return _decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError):
        return {}


def _unusable(directory: Path, error: OSError) -> errors.DataUnusable:
    return errors.DataUnusable(f"{directory} cannot be used: {error.strerror}: make it a writable directory, or name another one")


_open: weakref.WeakSet[ProcessSession] = weakref.WeakSet()


def _after_fork() -> None:
    for session in tuple(_open):
        session.forget()


os.register_at_fork(after_in_child=_after_fork)
