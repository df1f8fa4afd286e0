"""The directory of one test run's servers, and the promise that they end with it.

Each run has a directory under `callboard-servers-UID` in the temporary directory: who owns it, and the identity (pid and
start time) of every server in it. A `keeper` process waits for the owner's end, however it comes, and clears up; whatever
a keeper left, the next run sweeps. Only processes that are written down there, by their identity, and what those have started,
are ever killed. What servers start from (`template`) is made once and stays.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from callboard.node import processes
from callboard.testing.engines import trees

_OWNER = "owner.process"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(processes.Process).decode


class Ground:
    """A new directory, removed with all servers in it by `clear`, or when this process ends."""

    def __init__(self) -> None:
        top = _top()
        sweep(top)
        self.directory = Path(tempfile.mkdtemp(prefix="run-", dir=top))
        _let_through(self.directory)
        new = self.directory / f"{_OWNER}.new"
        new.write_bytes(_encode(processes.this()))
        new.rename(self.directory / _OWNER)  # Whoever sweeps meanwhile finds it whole or not at all.
        command = [sys.executable, "-m", "callboard.testing.engines.keeper", str(self.directory)]
        self._keeper = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def clear(self) -> None:
        """Kill what runs, remove everything. Allowed twice."""
        if self._keeper.stdin is not None and not self._keeper.stdin.closed:
            self._keeper.stdin.close()
        self._keeper.wait()

    def template(self, name: str, make: Callable[[Path], None]) -> Path:
        """Return the directory of this name beside all runs, which `make(empty directory)` fills when there is none yet.

        Whole or not there at all: what is half made belongs to this run. The name tells the product and its version.
        """
        kept = self.directory.parent / f"template-{name}"
        if not kept.exists():
            making = self.directory / f"making-{name}"
            making.mkdir(mode=0o700)
            make(making)
            with contextlib.suppress(OSError):  # Another run was faster.
                making.rename(kept)
        return kept

    def copied(self, template: Path, name: str) -> Path:
        """Return a copy of a template in this run, with its owners and modes."""
        copy = self.directory / name
        subprocess.run(["cp", "-a", str(template), str(copy)], check=True)
        return copy


def recipe(*parts: str) -> str:
    """Return a short mark of what a template is made by, for its name: another recipe, another template."""
    return f"{zlib.crc32(repr(parts).encode()):08x}"


def account(name: str) -> str | None:
    """Return the account that a server is to run as which refuses root: None when we are not root."""
    return name if os.geteuid() == 0 else None


def known(name: str) -> bool:
    """Whether servers can be run as this account, or need not be."""
    try:
        return account(name) is None or bool(pwd.getpwnam(name))
    except KeyError:
        return False


def write_down(directory: Path, name: str, process: processes.Process) -> None:
    """Note a server of a run, so that it is found when nobody else remembers it."""
    (directory / f"{name}.process").write_bytes(_encode(process))


def clear(directory: Path) -> None:
    """Kill the servers of a run with all that they started, wait for their end, remove its directory."""
    found = [_read(path) for path in directory.glob("*.process") if path.name != _OWNER]
    trees.kill(*(server for server in found if server is not None))
    shutil.rmtree(directory, ignore_errors=True)


def sweep(top: Path) -> None:
    """Clear the runs whose owner has ended."""
    for directory in top.glob("run-*"):
        if not (directory / _OWNER).exists():
            continue  # It is just being made.
        owner = _read(directory / _OWNER)
        pidfd = None if owner is None else processes.opened(owner)
        if pidfd is None:
            clear(directory)
        else:
            os.close(pidfd)


def _read(path: Path) -> processes.Process | None:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return _decode(path.read_bytes())
    return None


def _top() -> Path:
    top = Path(tempfile.gettempdir()) / f"callboard-servers-{os.getuid()}"
    top.mkdir(mode=0o700, exist_ok=True)
    if top.stat().st_uid != os.getuid():
        raise PermissionError(f"{top} belongs to somebody else: remove it, or set TMPDIR")
    _let_through(top)
    return top


def _let_through(directory: Path) -> None:
    """Servers of another account pass, to their own directory; nobody lists it."""
    if os.geteuid() == 0:
        directory.chmod(0o711)
