"""One server process of a test: started in a session of its own, stopped, killed, frozen, by its identity alone.

Knows nothing of products. Also: free ports, and waiting until something is true.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from callboard.node import processes
from callboard.testing.engines import ground

T = TypeVar("T")
_PORTS = range(20_000, 32_000)
"""Below those that the kernel gives to outgoing connections: while a server is down, nobody takes its port."""


class Server:
    """A process that writes its output to `DIRECTORY/NAME.log`."""

    def __init__(self, directory: Path, name: str, command: Sequence[str]) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self._directory = directory
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether it exists, frozen or not."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, if it does not run."""
        if self.running:
            return
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._directory, start_new_session=True
            )
        ground.write_down(self._directory, self.name, processes.identified(self._process.pid))

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, number)

    def freeze(self) -> None:
        """Stop it where it is (SIGSTOP): its connections stay open, nothing answers."""
        self.signal(signal.SIGSTOP)

    def cont(self) -> None:
        """Let it go on."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it as a crash does, frozen or not; wait for its end."""
        self.signal(signal.SIGKILL)
        self._wait(seconds=5)

    def stop(self, seconds: float = 5) -> None:
        """Ask it to end (SIGTERM), kill it after `seconds`."""
        self.cont()
        self.signal(signal.SIGTERM)
        try:
            self._wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def said(self, lines: int = 20) -> str:
        """The end of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def _wait(self, seconds: float) -> None:
        if self._process is not None:
            self._process.wait(seconds)


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nobody listens at, found by binding them all at once."""
    bound: list[socket.socket] = []
    try:
        for port in random.sample(_PORTS, len(_PORTS)):
            tried = socket.socket()
            bound.append(tried)
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                bound.pop().close()
            if len(bound) == count:
                return [each.getsockname()[1] for each in bound]
    finally:
        for each in bound:
            each.close()
    raise RuntimeError(f"no {count} ports are free between {_PORTS.start} and {_PORTS.stop}")


def wait_for(look: Callable[[], T | None], what: str, seconds: float) -> T:
    """Poll until `look()` is true, and return that; TimeoutError, naming what was waited for, after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.02)
    return found
