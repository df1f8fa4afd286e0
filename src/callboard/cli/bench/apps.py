"""The jobs and services that are measured: as little work as there can be."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from callboard import Call, Callboard, Context, method

app = Callboard("bench")


@app.job(lane="short", attempts=1)
async def noop(n: int = 0) -> int:
    """Return what was given."""
    return n


@app.job(lane="short", attempts=1)
async def started() -> int:
    """Return when it began, in nanoseconds of CLOCK_BOOTTIME, which the submitting process on this machine can compare."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@app.job(attempts=1)
async def hold(ctx: Context, book: str, gate: str) -> None:
    """Write into the file `book` that it began, in which process and when, and run until the file `gate` exists."""
    _write(book, f"{ctx.id} {os.getpid()} {time.clock_gettime_ns(time.CLOCK_BOOTTIME)}\n")
    while not Path(gate).exists():  # noqa: ASYNC110, ASYNC240  # A file outlives every process that is killed here.
        await asyncio.sleep(0.02)


def _write(book: str, line: str) -> None:
    with Path(book).open("a") as lines:  # One write at the end: several processes append to it.
        lines.write(line)


@app.service("echo")
class Echo:
    """One active instance, the other ones wait."""

    @method(idempotent=True)
    async def say(self, value: str) -> str:
        """Return what was given."""
        return value

    @method(idempotent=True)
    async def who(self, call: Call) -> tuple[int, int]:
        """Return the process and the epoch that answered."""
        return os.getpid(), call.epoch

    @method
    async def hang(self, seconds: float) -> None:
        """Hold the event loop up, as a program with a fault would."""
        time.sleep(seconds)  # noqa: ASYNC251  # This is what is measured.
