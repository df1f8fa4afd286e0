"""The writers' lock: a `flock` before every BEGIN, because it queues the processes fairly and SQLite's busy handler starves them.

While it is held, the lock file says who holds it, so that a process which was stopped or killed in the middle of a commit
can be found and ended by those who wait. A forked child inherits the lock's file description and would keep a dead parent's
lock: it closes its copy at once.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import time
import weakref
from pathlib import Path
from typing import Final

import msgspec

HOLDER: Final = struct.Struct("<QQQQ")
"""pid (0: nobody holds it), the process's start time (field 22 of /proc/PID/stat), a number that grows with each
acquisition, and the CLOCK_BOOTTIME nanoseconds of it."""


class Holder(msgspec.Struct, frozen=True):
    """Who holds the lock, as `HOLDER` says."""

    pid: int
    start_time: int
    sequence: int
    since: int


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks after boot: with the pid, its identity. Raises OSError when it is gone."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


class WriteLock:
    """Held by one thread of one process at a time. Not reentrant."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.fstat(self._file).st_size < HOLDER.size:
            # Written, not just made that long: on a full disk this raises, where touching the mapped page would kill.
            os.pwrite(self._file, bytes(HOLDER.size), 0)
        self._page = mmap.mmap(self._file, HOLDER.size)
        self._pid = os.getpid()
        self._start = start_time(self._pid)
        _open.add(self)

    def __enter__(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        sequence = HOLDER.unpack_from(self._page)[2] + 1
        HOLDER.pack_into(self._page, 0, self._pid, self._start, sequence, time.clock_gettime_ns(time.CLOCK_BOOTTIME))

    def __exit__(self, *_: object) -> None:
        self._page[:8] = bytes(8)
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the file. Allowed twice."""
        if self._file >= 0:
            _open.discard(self)
            self._page.close()
            os.close(self._file)
            self._file = -1

    def forget(self) -> None:
        """Close a forked child's copy without unlocking the parent's."""
        os.close(self._file)
        self._file = -1


_open: weakref.WeakSet[WriteLock] = weakref.WeakSet()


def _after_fork() -> None:
    for lock in tuple(_open):
        lock.forget()
    _open.clear()


os.register_at_fork(after_in_child=_after_fork)


def holder(path: Path) -> Holder | None:
    """Return who holds the lock of this file, as written there; None when nobody does or the file does not exist."""
    try:
        found = Holder(*HOLDER.unpack(path.read_bytes()[: HOLDER.size]))
    except (OSError, struct.error):
        return None
    return found if found.pid else None
