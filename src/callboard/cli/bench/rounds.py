"""How a request-response path is measured: one after the other for latency, a hundred at a time for the rate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from callboard.cli.bench import samples

IN_FLIGHT: Final = 100
ONE_BY_ONE: Final = 5_000
WARM_UP: Final = 1_000
RATE_SECONDS: Final = 3.0


async def measure(once: Callable[[], Awaitable[None]]) -> dict[str, float]:
    """Return p50 and p99 in microseconds of calls one by one, and calls/s with 100 in flight."""
    for _ in range(WARM_UP):
        await once()
    seconds = []
    for _ in range(ONE_BY_ONE):
        began = time.perf_counter()
        await once()
        seconds.append(time.perf_counter() - began)
    return {
        "p50_us": round(samples.percentile(seconds, 50) * 1e6, 1),
        "p99_us": round(samples.percentile(seconds, 99) * 1e6, 1),
        "per_second": round(await rate(once)),
    }


async def rate(once: Callable[[], Awaitable[None]], seconds: float = RATE_SECONDS) -> float:
    """Return calls/s with `IN_FLIGHT` of them under way all the time."""
    until = time.perf_counter() + seconds
    done = 0

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < until:
            await once()
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
    return done / (time.perf_counter() - began)
