"""The jobs that are measured: as little work as a job can be."""

from __future__ import annotations

import time

from callboard import Callboard

app = Callboard("bench")


@app.job(lane="short", attempts=1)
async def noop(n: int = 0) -> int:
    """Return what was given."""
    return n


@app.job(lane="short", attempts=1)
async def started() -> int:
    """Return when it began, in nanoseconds of CLOCK_BOOTTIME, which the submitting process on this machine can compare."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
