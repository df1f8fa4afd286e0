"""An idle system: how long from a submission until its handler starts in another process, and until a client has the result."""

from __future__ import annotations

import time
from typing import Any

from callboard.cli.bench import deployment, samples, stream
from callboard.cli.bench.apps import app, started
from callboard.client import Client
from callboard.kit import clock

ROUNDS = 300
WARM_UP = 20


async def measure(rounds: int = ROUNDS, store: str | None = None) -> dict[str, Any]:
    """Return p50, p99 and the greatest of both, in milliseconds, one job at a time; on another store, if its URL is given."""
    async with deployment.deploy(workers=2, slots=16, store=store) as made:
        to_start = await _to_start(made, rounds + WARM_UP)
        to_result = await _to_result(made, rounds + WARM_UP)
    return {
        "submit_to_start": samples.milliseconds(to_start[WARM_UP:]),
        "http_submit_to_result": samples.milliseconds(to_result[WARM_UP:]),
    }


async def _to_start(made: deployment.Deployment, rounds: int) -> list[float]:
    boot = clock.SystemClock().boot
    seconds = []
    async with stream.opened(made) as store, app.connect(store):
        for _ in range(rounds):
            before = boot()
            job = await started.submit()
            seconds.append((await job.result(30) - before) / 1e9)
    return seconds


async def _to_result(made: deployment.Deployment, rounds: int) -> list[float]:
    seconds = []
    async with Client(made.urls, key=made.key) as client:
        for _ in range(rounds):
            before = time.perf_counter()
            job = await client.submit("bench.noop", {"n": 1})
            await client.wait(job.id, 30)
            seconds.append(time.perf_counter() - before)
    return seconds
