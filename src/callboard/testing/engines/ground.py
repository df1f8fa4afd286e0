"""The directory of one test run's servers, and the promise that they end with it.

Each run has a directory under `callboard-servers-UID` in the temporary directory: who owns it, and the identity (pid and
start time) of every server in it. A `keeper` process waits for the owner's end, however it comes, and clears up; whatever
a keeper left, the next run sweeps. Only processes that are written down there, by their identity, are ever killed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from callboard.node import processes

_OWNER = "owner.process"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(processes.Process).decode


class Ground:
    """A new directory, removed with all servers in it by `clear`, or when this process ends."""

    def __init__(self) -> None:
        top = _top()
        sweep(top)
        self.directory = Path(tempfile.mkdtemp(prefix="run-", dir=top))
        (self.directory / _OWNER).write_bytes(_encode(processes.this()))
        command = [sys.executable, "-m", "callboard.testing.engines.keeper", str(self.directory)]
        self._keeper = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def clear(self) -> None:
        """Kill what runs, remove everything. Allowed twice."""
        if self._keeper.stdin is not None and not self._keeper.stdin.closed:
            self._keeper.stdin.close()
        self._keeper.wait()


def write_down(directory: Path, name: str, process: processes.Process) -> None:
    """Note a server of a run, so that it is found when nobody else remembers it."""
    (directory / f"{name}.process").write_bytes(_encode(process))


def clear(directory: Path) -> None:
    """Kill the servers of a run, wait for their end, remove its directory."""
    descriptors = [found for path in directory.glob("*.process") if path.name != _OWNER and (found := _opened(path)) is not None]
    for pidfd in descriptors:
        processes.send(pidfd, signal.SIGKILL)
    for pidfd in descriptors:
        processes.ended(pidfd, seconds=5)
        os.close(pidfd)
    shutil.rmtree(directory, ignore_errors=True)


def sweep(top: Path) -> None:
    """Clear the runs whose owner has ended."""
    for directory in top.glob("run-*"):
        pidfd = _opened(directory / _OWNER)
        if pidfd is not None:
            os.close(pidfd)
        elif (directory / _OWNER).exists():  # One without an owner is just being made.
            clear(directory)


def _opened(path: Path) -> int | None:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return processes.opened(_decode(path.read_bytes()))
    return None


def _top() -> Path:
    top = Path(tempfile.gettempdir()) / f"callboard-servers-{os.getuid()}"
    top.mkdir(mode=0o700, exist_ok=True)
    if top.stat().st_uid != os.getuid():
        raise PermissionError(f"{top} belongs to somebody else: remove it, or set TMPDIR")
    return top
