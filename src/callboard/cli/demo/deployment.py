"""The demo's own Callboard: an agent started by `callboard up` in a temporary directory, ended and removed whatever happens.

Only processes of that directory are ever signalled, each by its identity (pid and start time).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from callboard import client, errors
from callboard.kit import ports
from callboard.node import agent, layout, processes, shutdown

STOP_SECONDS: Final = 5.0


class Deployment(msgspec.Struct, frozen=True):
    """A running Callboard of this demo's own."""

    directory: Path
    urls: list[str]
    key: str

    def client(self) -> client.Client:
        """Return a client of its gateways, for `async with`."""
        return client.Client(self.urls, self.key)


@contextlib.contextmanager
def running(*, gateways: int, workers: int, slots: int, store: str | None = None) -> Iterator[Deployment]:
    """Run a Callboard while the block runs, on a store of its own or on one by URL.

    Raises StartupError, and RuntimeError when something of it outlives its end.
    """
    directory = Path(tempfile.mkdtemp(prefix="callboard-demo-"))
    try:
        with _agent(directory, gateways=gateways, workers=workers, slots=slots, store=store) as process:
            yield _ready(process, directory)
    finally:
        left = _end_leftovers(directory)
        shutil.rmtree(directory, ignore_errors=True)
    if left:
        raise RuntimeError(f"processes outlived the demo and were killed: {left}")


def kill(node: Mapping[str, Any], number: signal.Signals) -> None:
    """Send a signal to the process of a node, as the list of nodes tells it; nothing happens when it is gone."""
    pidfd = processes.opened(processes.Process(node["pid"], node["pid_started"]))
    if pidfd is not None:
        processes.send(pidfd, number)
        os.close(pidfd)


@contextlib.contextmanager
def _agent(directory: Path, *, gateways: int, workers: int, slots: int, store: str | None) -> Iterator[subprocess.Popen[bytes]]:
    numbers = {"gateways": gateways, "workers": workers, "slots": slots, "port": ports.free(gateways)[0]}
    options = [f"--{name}={number}" for name, number in numbers.items()] + ([f"--store={store}"] if store else [])
    with open(directory / "agent.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "callboard.cli", "up", f"--data={directory / 'data'}", "--json", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=directory,  # No settings file lies there.
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the demo, which then ends the agent in its way.
        )
    with process:
        try:
            yield process
        finally:
            with _undisturbed():
                with contextlib.suppress(errors.NotRunning):
                    shutdown.stop(directory / "data", STOP_SECONDS)
                process.kill()  # Only one that never came so far as to be found by its data directory.


def _ready(process: subprocess.Popen[bytes], directory: Path) -> Deployment:
    assert process.stdout is not None
    said = process.stdout.readline()
    if not said:
        lines = (directory / "agent.log").read_text(errors="replace").splitlines()
        raise errors.StartupError(lines[-1].removeprefix("callboard: ") if lines else "the demo's agent ended without a word")
    started = msgspec.json.decode(said, type=agent.Started)
    local = layout.read_local(layout.Layout(directory / "data").local)
    assert local is not None and local.key is not None
    return Deployment(directory / "data", started.urls, local.key)


def _environment() -> dict[str, str]:
    """The demo runs under settings of its own; relative import paths are made to lead where they led."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CALLBOARD_")}
    if "PYTHONPATH" in kept:
        kept["PYTHONPATH"] = os.pathsep.join(str(Path(part).absolute()) for part in kept["PYTHONPATH"].split(os.pathsep))
    return kept


def _end_leftovers(directory: Path) -> list[int]:
    """Kill what of Callboard still runs for this directory, which every process of it names in its command; return the pids."""
    left = []
    for found in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (found / "cmdline").read_bytes()
            if b"callboard." in command and os.fsencode(directory) in command and int(found.name) != os.getpid():
                left.append(int(found.name))
                os.kill(int(found.name), signal.SIGKILL)
    return left


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Have Ctrl-C wait: what is being ended now is ended whole."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
