"""A server process with all that it has started: frozen, continued and killed as one.

Found by parentage and by session: PostgreSQL's children have sessions of their own, and those of a script that ended have a new
parent. Each is signalled by its identity; nothing else is ever touched. Linux only, like `callboard.node.processes`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from callboard.node import processes

_SEGMENTS = Path("/proc/sysvipc/shm")
_MAKER, _ATTACHED = 4, 6
"""Columns of a System V segment: the pid that made it, and how many hold it."""
_PAUSE_SECONDS = 0.002
"""Between looks whether all stand still."""
_STILL = "TtZX"
"""States of threads that are stopped, traced or dead."""


def freeze(root: processes.Process, seconds: float = 5) -> None:
    """Stop all of it. The root first, so that it starts no others; then whatever is found, until nothing new is. Wait until all
    its threads stand still: a thread goes on until it hears of it, and one that waits for the disk for longer than that."""
    told = list(_stopped(root))
    deadline = time.monotonic() + seconds
    while not all(map(_stands_still, told)) and time.monotonic() < deadline:
        time.sleep(_PAUSE_SECONDS)


def cont(root: processes.Process) -> None:
    """Let all of it go on, the root last."""
    for process in [*reversed(members(root)), root]:
        _send(process, signal.SIGCONT)


def kill(*roots: processes.Process, seconds: float = 5) -> None:
    """Kill all of them at one moment, wait for their end, and take away the shared memory that only a crash leaves."""
    with ExitStack() as stack:
        descriptors = []
        for process in [each for root in roots for each in _stopped(root)]:
            pidfd = processes.opened(process)
            if pidfd is not None:
                stack.callback(os.close, pidfd)
                descriptors.append(pidfd)
        for pidfd in descriptors:
            processes.send(pidfd, signal.SIGKILL)
        for pidfd in descriptors:
            processes.ended(pidfd, seconds)
    _remove_segments({root.pid for root in roots})


def _stopped(root: processes.Process) -> Iterator[processes.Process]:
    if not _send(root, signal.SIGSTOP):
        return
    yield root
    known = {root}
    while new := [process for process in members(root) if process not in known]:
        for process in new:
            _send(process, signal.SIGSTOP)
            known.add(process)
            yield process


def members(root: processes.Process) -> list[processes.Process]:
    """Return the others of a tree whose root exists, parents before their children."""
    pidfd = processes.opened(root)
    if pidfd is None:
        return []
    everybody = dict(_everybody())
    os.close(pidfd)
    found = [root.pid]
    for pid in found:  # Grows while it is walked.
        children = [other for other, (parent, session, _) in everybody.items() if parent == pid or session == root.pid]
        found.extend(sorted(set(children) - set(found)))
    return [processes.Process(pid, everybody[pid][2]) for pid in found[1:]]


def _stands_still(process: processes.Process) -> bool:
    """Whether none of its threads runs; so it is with one that has ended."""
    try:
        threads = os.listdir(f"/proc/{process.pid}/task")
    except OSError:
        return True
    found = [processes.status(int(thread)) for thread in threads]
    return all(status is None or status.state in _STILL for status in found)


def _everybody() -> Iterator[tuple[int, tuple[int, int, int]]]:
    """For each process of the machine its parent, its session and when it was started."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                text = Path(entry.path, "stat").read_bytes()
            except OSError:
                continue
            fields = text[text.rindex(b")") + 2 :].split(b" ", 20)
            if fields[0] == b"Z":  # Ended, and told to nobody yet.
                continue
            yield int(entry.name), (int(fields[1]), int(fields[3]), int(fields[19]))


def _send(process: processes.Process, number: signal.Signals) -> bool:
    """Whether there was somebody to send it to."""
    pidfd = processes.opened(process)
    if pidfd is None:
        return False
    processes.send(pidfd, number)
    os.close(pidfd)
    return True


def _remove_segments(pids: set[int]) -> None:
    if not _SEGMENTS.exists():
        return
    for line in _SEGMENTS.read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[_MAKER]) in pids and fields[_ATTACHED] == "0":
            subprocess.run(["ipcrm", "-m", fields[1]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
