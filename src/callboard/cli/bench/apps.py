"""The jobs and services that are measured: as little work as there can be."""

from __future__ import annotations

import os
import time

from callboard import Call, Callboard, method

app = Callboard("bench")


@app.job(lane="short", attempts=1)
async def noop(n: int = 0) -> int:
    """Return what was given."""
    return n


@app.job(lane="short", attempts=1)
async def started() -> int:
    """Return when it began, in nanoseconds of CLOCK_BOOTTIME, which the submitting process on this machine can compare."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


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
