"""Servers of one cluster as real processes on addresses of this machine: one file, certificates, an agent each.

Used by acceptance tests of servers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from callboard.cli.demo import deployment
from callboard.kit import ports

CALLBOARD = (sys.executable, "-m", "callboard.cli")
SECONDS = 40.0
HEAD = """
version = {version}
cluster = "acme"
app = "shop:app"
store.url = "{store}"
coordination.url = "{coordination}"
wire.certificates = "certs"
"""
"""How every file begins; `{store}` and the like are filled in."""


class Site:
    """A directory with the file, the app and the certificates, as every server has them, and the agents started there."""

    def __init__(self, directory: Path, file: str, app: str, store: str, coordination: str) -> None:
        """`file` is what `cluster.toml` says after `HEAD`, with `{port}` to be filled in."""
        self.directory = directory
        self._file = HEAD + file
        self._given = {"store": store, "coordination": coordination, "port": str(ports.free()[0])}
        self._agents: list[subprocess.Popen[str]] = []
        (directory / "shop.py").write_text(app)
        self.write(1)
        self.run("certs", "init")
        for server in ("alpha", "beta"):
            self.run("certs", "issue", server)

    def write(self, version: int) -> None:
        (self.directory / "cluster.toml").write_text(self._file.format(version=version, **self._given))

    def start(self, *tokens: str) -> dict[str, Any]:
        """Start an agent; return what it says once it is ready, and how, in `notes`."""
        said = self.directory / f"agent-{len(self._agents)}.err"
        with said.open("w") as err:
            command = [*CALLBOARD, "agent", *tokens, "--json"]
            made = subprocess.Popen(command, cwd=self.directory, env=clean(), text=True, stdout=subprocess.PIPE, stderr=err)
        self._agents.append(made)
        assert made.stdout is not None
        line = made.stdout.readline()
        assert line, said.read_text()
        return {**json.loads(line), "notes": said.read_text()}

    def stop(self, place: int) -> None:
        self._agents[place].terminate()
        assert self._agents[place].wait(SECONDS) == 0

    def run(self, *tokens: str, code: int = 0) -> str:
        command = [*CALLBOARD, *tokens]
        ran = subprocess.run(
            command, cwd=self.directory, env=clean(), text=True, capture_output=True, timeout=SECONDS, check=False
        )
        assert ran.returncode == code, ran.stdout + ran.stderr
        return ran.stderr if code else ran.stdout

    def nodes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.run("nodes", "--data", "alpha", "--json"))["nodes"]
        return found

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline, [path.read_text() for path in self.directory.glob("agent-*.err")]

    def sweep(self) -> None:
        for each in self._agents:
            with each:
                each.kill()
        deployment._end_leftovers(self.directory)


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("CALLBOARD_")}
