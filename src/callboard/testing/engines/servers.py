"""One server of a test: started in a session of its own, stopped, killed, frozen, with all that it started, by identity alone.

Knows nothing of products. Also: waiting until something is true.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from callboard.node import processes
from callboard.testing.engines import ground, trees

T = TypeVar("T")


class Server:
    """A process that writes its output to `DIRECTORY/NAME.log`; of another account when root is refused."""

    farewell = signal.SIGTERM
    """What asks it to end, now, whoever is connected."""

    def __init__(self, directory: Path, name: str, command: Sequence[str], *, account: str | None = None) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self.command = list(command)
        self.account = account
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether it exists, frozen or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def identity(self) -> processes.Process | None:
        """Which process it is; None when it does not run."""
        if self._process is None or self._process.poll() is not None:
            return None
        return processes.identified(self._process.pid)

    @property
    def frozen(self) -> bool:
        """Whether it was stopped where it is."""
        process = self.identity
        status = None if process is None else processes.status(process.pid)
        return status is not None and status.state == "T"

    def start(self) -> None:
        """Start it, if it does not run."""
        if self.running:
            return
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **self.surroundings()
            )
        ground.write_down(self._directory, self.name, processes.identified(self._process.pid))

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it, not to what it started, if it runs."""
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, number)

    def freeze(self) -> None:
        """Stop all of it where it is (SIGSTOP): its connections stay open, nothing answers."""
        if (process := self.identity) is not None:
            trees.freeze(process)

    def cont(self) -> None:
        """Let it go on."""
        if (process := self.identity) is not None:
            trees.cont(process)

    def kill(self) -> None:
        """Kill all of it as a crash does, frozen or not; wait for its end."""
        if (process := self.identity) is not None:
            trees.kill(process)
        self._wait(seconds=5)

    def stop(self, seconds: float = 5) -> None:
        """Ask it to end, kill it after `seconds`."""
        self.cont()
        self.signal(self.farewell)
        try:
            self._wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def said(self, lines: int = 20) -> str:
        """The end of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def asked(self, client: Sequence[str], text: str, seconds: float) -> list[tuple[str, ...]]:
        """Have a client of it run statements; return the rows that it prints, tabs between. RuntimeError with what it complains
        of; TimeoutError when nothing comes."""
        try:
            ran = subprocess.run(client, input=text, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} did not answer within {seconds:g} s") from None
        if ran.returncode != 0:
            raise RuntimeError(ran.stderr.strip())
        return [tuple(line.split("\t")) for line in ran.stdout.splitlines()]

    def surroundings(self) -> dict[str, Any]:
        """Where and as whom its programs run: arguments of `subprocess`."""
        return surroundings(self._directory, self.account)

    def _wait(self, seconds: float) -> None:
        if self._process is not None:
            self._process.wait(seconds)


class Stood(Protocol):
    """What a `with` starts and closes."""

    def start(self) -> None:
        """Start what does not run, wait until it serves."""

    def close(self) -> None:
        """Kill it and remove its data. Allowed twice."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def surroundings(directory: Path, account: str | None) -> dict[str, Any]:
    """Return the arguments of `subprocess` that run a program in this directory, as that account (None: as ourselves)."""
    if account is None:
        return {"cwd": directory}
    entry = pwd.getpwnam(account)
    return {"cwd": directory, "user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def program(name: str) -> str | None:
    """Return the path of a server's program, which may stand where only root looks."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")


def found(name: str) -> str:
    """Return the path of a program; FileNotFoundError when it is not installed."""
    path = program(name)
    if path is None:
        raise FileNotFoundError(f"there is no {name}")
    return path


def wait_for(look: Callable[[], T | None], what: str, seconds: float) -> T:
    """Poll until `look()` is true, and return that; TimeoutError, naming what was waited for, after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.02)
    return found
