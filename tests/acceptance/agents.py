"""Agents as real processes, started through `node.agent.run` itself: brought up, looked at, broken, swept away.

Used by the acceptance tests of the agent. Nodes are found by the sessions and records of the data directory.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from callboard.kit import ports
from callboard.node import agent, layout, processes

RUN = """
import json, os, sys
from callboard import errors, settings
from callboard.kit import telemetry
from callboard.node import agent
import msgspec
telemetry.configure(role="agent")
def ready(started):
    os.write(1, msgspec.json.encode(started) + b"\\n")
try:
    agent.run(settings.load(None, None, json.loads(sys.argv[1])), ready)
except errors.CallboardError as error:
    os.write(1, json.dumps({"code": error.code, "message": error.message}).encode() + b"\\n")
    sys.exit(3)
"""
APP = """
import asyncio, os, time
from callboard import Callboard
app = Callboard("app")

@app.job
async def nap(seconds: float = 0.0) -> int:
    await asyncio.sleep(seconds)
    return os.getpid()

@app.job
async def wait_for(path: str) -> None:
    while not os.path.exists(path):
        await asyncio.sleep(0.01)

@app.job(attempts=1)
async def block(seconds: float) -> int:
    time.sleep(seconds)  # The node's loop stands still.
    return os.getpid()

@app.job(attempts=1)
def leave_a_thread(seconds: float) -> None:
    time.sleep(seconds)

other = Callboard("other")
"""
DEADLINE_SECONDS = 40.0
GATEWAYS = 2
"""The most of one machine."""


class Machine:
    """A data directory, a directory with an app, and the agents started for it."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self.home = directory
        self.port = ports.free(GATEWAYS)[0]
        self.place = layout.Layout(self.data)
        (directory / "site.py").write_text("")
        (directory / "own.py").write_text(APP)
        self._agents: list[subprocess.Popen[bytes]] = []

    def start(self, **flags: Any) -> subprocess.Popen[bytes]:
        """Start an agent; it may fail to."""
        given = {"data": str(self.data), "app": "own:app", "gateway.port": self.port, "worker.count": 1, "gateway.count": 0}
        given |= {name.replace("__", "."): value for name, value in flags.items()}
        with (self.home / "agent.err").open("ab") as log:
            made = subprocess.Popen(
                [sys.executable, "-c", RUN, json.dumps(given)], stdout=subprocess.PIPE, stderr=log, cwd=self.home
            )
        self._agents.append(made)
        return made

    def up(self, **flags: Any) -> subprocess.Popen[bytes]:
        """Start an agent and wait until it is ready; `started` is what it said."""
        made = self.start(**flags)
        said = self.said(made)
        assert "code" not in said, said
        self.started = said
        return made

    def said(self, made: subprocess.Popen[bytes]) -> Any:
        """Return the line that an agent prints: what it started, or why it did not."""
        assert made.stdout is not None
        line = made.stdout.readline()
        assert line, self.log()
        return json.loads(line)

    def log(self) -> str:
        return (self.home / "agent.err").read_text()

    def pids(self, role: str = "worker") -> dict[int, int]:
        """Return the pids of ready nodes by index."""
        return {index: entry.process.pid for index, entry in self._entries(role).items() if entry.roles}

    def pid(self, role: str = "worker", index: int = 0) -> int:
        return self.pids(role)[index]

    def until(self, condition: Callable[[], object], seconds: float = DEADLINE_SECONDS) -> None:
        """Wait for a condition, which may fail with a KeyError for what is not there yet."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if condition():
                    return
            except KeyError:
                pass
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {self.log()}"
            time.sleep(0.02)

    def gone(self, pid: int) -> bool:
        found = processes.status(pid)
        return found is None or found.state == "Z"

    def sweep(self) -> None:
        """Kill what was started here and still lives."""
        for made in self._agents:
            made.kill()
            made.wait()
            if made.stdout is not None:
                made.stdout.close()
        if self.data.is_dir():
            self.until(self._all_killed)

    def _all_killed(self) -> bool:
        running = self._running()
        for pid in running:
            with contextlib.suppress(ProcessLookupError):  # It ended by itself.
                os.kill(pid, signal.SIGKILL)
        return not running

    def _running(self) -> list[int]:
        mark = os.fsencode(self.place.nodes) + b"/"
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
            except OSError:
                continue
            if any(word.startswith(mark) for word in words):
                found.append(int(path.parent.name))
        return found

    def _entries(self, role: str) -> dict[int, layout.NodeEntry]:
        found = {}
        for put in self.place.sessions().entries(layout.NODES):
            entry = layout.entry(put)
            assert entry is not None and entry.incarnation is not None
            try:
                record = layout.read_record(self.place.record(entry.incarnation))
            except OSError:
                continue
            if record.role == role and not self.gone(entry.process.pid):
                found[record.index] = entry
        return found


def stop(machine: Machine, grace_seconds: float = 5.0) -> Any:
    """What `callboard down` does."""
    return agent.stop(machine.data, grace_seconds)
