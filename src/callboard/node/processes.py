"""Processes of this machine, by an identity that is never used twice: (pid, start time). Linux only: /proc and pidfds.

Nothing here decides; `liveness` does. Used by the agent, its lock watch, and whoever stops them.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from pathlib import Path

import msgspec


class Process(msgspec.Struct, frozen=True):
    """Which process: `started` is field 22 of /proc/PID/stat, clock ticks after the machine's start."""

    pid: int
    started: int


class Status(msgspec.Struct, frozen=True):
    """What the kernel says of a process: `state` is R, S, D, T (stopped), t (traced), Z (dead, not yet reaped) …"""

    state: str
    started: int


def status(pid: int) -> Status | None:
    """Return the status of whatever process has this pid now; None when none has."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = text[text.rindex(b")") + 2 :].split(b" ", 20)
    return Status(chr(fields[0][0]), int(fields[19]))


def this() -> Process:
    """Return the identity of this process."""
    return identified(os.getpid())


def identified(pid: int) -> Process:
    """Return the identity of a process that surely exists (this one, or a child not yet reaped)."""
    found = status(pid)
    assert found is not None, f"process {pid} does not exist"
    return Process(pid, found.started)


def opened(process: Process) -> int | None:
    """Return a pidfd of exactly this process, None when it is gone. Readable when the process has ended. To be closed."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:
        return None
    # The pid was taken before the look: if it is still the same process after, the descriptor is of this one.
    found = status(process.pid)
    if found is not None and found.started == process.started and found.state != "Z":
        return pidfd
    os.close(pidfd)
    return None


def send(pidfd: int, number: signal.Signals) -> None:
    """Send a signal to the process of a pidfd; nothing happens when it has ended."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


def ended(pidfd: int, seconds: float = 0) -> bool:
    """Tell whether the process of a pidfd has ended, waiting up to `seconds` for it. Blocks."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(max(0, round(seconds * 1000))))
