"""The app that the fault tests run: handlers that write down what they do, and a commit that can be frozen.

Loaded by nodes as `ledger:app`. Each handler appends lines (`history.Mark`) to the file $CALLBOARD_TEST_LEDGER, in one write
each, and returns its fence. Imports nothing of the tests: a node's process knows only this directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from callboard import Callboard, Context
from callboard.jobs.engines.sqlite import engine

app = Callboard("ledger")

POLL_SECONDS = 0.02
LEDGER = os.environ.get("CALLBOARD_TEST_LEDGER", os.devnull)


def write(what: str, ctx: Context, pid: int) -> None:
    line = {"what": what, "id": ctx.id, "run": ctx.run, "fence": ctx.fence, "pid": pid, "at": boot()}
    ledger = os.open(LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(ledger, json.dumps(line).encode() + b"\n")
    finally:
        os.close(ledger)


def boot() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@contextlib.contextmanager
def noted(ctx: Context, pid: int | None = None) -> Iterator[int]:
    """Write down that a handler began, and how it ended; gives its fence."""
    pid = pid or os.getpid()
    write("began", ctx, pid)
    try:
        yield ctx.fence
    except BaseException:
        write("left", ctx, pid)
        raise
    write("ended", ctx, pid)


@app.job
async def hold(ctx: Context, gate: str) -> int:
    """Run until the file `gate` exists."""
    with noted(ctx) as fence:
        while not os.path.exists(gate):
            await asyncio.sleep(POLL_SECONDS)
    return fence


@app.job(runs_in="thread")
def hold_thread(ctx: Context, gate: str, stubborn: bool = False) -> int:
    """The same in a thread; a stubborn one does not listen when it is told to end."""
    with noted(ctx) as fence:
        while not os.path.exists(gate):
            if not stubborn:
                ctx.check_cancelled()
            time.sleep(POLL_SECONDS)
    return fence


@app.job(runs_in="process")
def hold_process(ctx: Context, gate: str) -> int:
    """The same in a process of its own, which must die with its node."""
    with noted(ctx, os.getppid()) as fence:
        while not os.path.exists(gate):
            time.sleep(POLL_SECONDS)
    return fence


@app.job
async def nap(ctx: Context, seconds: float = 0.0) -> int:
    with noted(ctx) as fence:
        await asyncio.sleep(seconds)
    return fence


@app.job
async def carry(ctx: Context, load: str) -> int:
    """Bring something heavy along."""
    with noted(ctx) as fence:
        return fence


@app.job
async def die(ctx: Context, seconds: float = 0.0) -> None:
    """Take the whole node along, after a while."""
    with noted(ctx):
        await asyncio.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)


@app.job(runs_in="thread")
def grip(ctx: Context, seconds: float) -> int:
    """Hold the interpreter's lock in C: a function called through PyDLL does not let go of it."""
    usleep = ctypes.PyDLL(None).usleep
    with noted(ctx) as fence:
        usleep(round(seconds * 1e6))
    return fence


def freeze() -> None:
    """Stop this process inside its commit, once, when the file says so."""
    flag = Path(f"{LEDGER}.freeze-{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        flag.rename(f"{LEDGER}.frozen-{os.getpid()}")
        # To this thread: sent to the process, another thread may take it, and this one be past its commit when all stop.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def clench() -> None:
    """Hold the interpreter's lock inside this process's commit, once, for as many seconds as the file says."""
    flag = Path(f"{LEDGER}.clench-{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        seconds = float(flag.read_text())
        flag.rename(f"{LEDGER}.clenched-{os.getpid()}")
        ctypes.PyDLL(None).usleep(round(seconds * 1e6))
        Path(f"{LEDGER}.opened-{os.getpid()}").touch()


def disturb() -> None:
    """What tests ask for in the middle of a commit."""
    freeze()
    clench()


engine.before_commit = disturb
with contextlib.suppress(ImportError):  # What databases need is an optional extra.
    from callboard.databases import wire

    commit = wire.Wire.commit

    def disturbed(self: wire.Wire) -> None:
        disturb()
        commit(self)

    wire.Wire.commit = disturbed  # type: ignore[method-assign]
with contextlib.suppress(ImportError):  # As above.
    from callboard.ensembles import client

    ask = client.Client.commit

    def asked(self: client.Client, steps: Any) -> Any:
        disturb()
        return ask(self, steps)

    client.Client.commit = asked  # type: ignore[method-assign]
