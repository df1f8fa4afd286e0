"""Durable throughput: no-op jobs submitted in batches while two workers run them, finished ones are removed and one lists.

The submitter is this process, the workers are a deployment's, and a third process (`sweeper`) removes finished jobs as fast
as they come and lists jobs all the time. Jobs count when their result is stored.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from callboard import app as apps
from callboard.cli.bench import deployment
from callboard.cli.bench.apps import app, noop
from callboard.jobs import model

BATCH = 500
AHEAD = 20_000
"""Jobs in the store that nobody has finished, above which the submitter waits."""
SLOTS = 500


async def measure(seconds: float, *, batch: int = BATCH) -> dict[str, Any]:
    """Return jobs/s (median, slowest second, total), the largest write-ahead log, and how much the reader listed."""
    async with deployment.deploy(workers=2, slots=SLOTS) as made:
        sweeper = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "callboard.cli.bench.sweeper", made.store, str(seconds), stdout=asyncio.subprocess.PIPE
        )
        async with app.connect(made.store) as connection:
            await _submit(connection, seconds, batch)
        out, _ = await sweeper.communicate()
    return _summary(json.loads(out))


async def _submit(connection: apps.Connection, seconds: float, batch: int) -> None:
    """Keep the store fed, not flooded, until the time is over."""
    until = time.monotonic() + seconds
    handle = noop.options(tags=["bench", "stream"])
    queue = connection.queue
    while time.monotonic() < until:
        waiting = sum(count.jobs for count in await queue.counts(model.DEFAULT_DOMAIN) if count.state not in model.TERMINAL)
        for _ in range(max(0, AHEAD - waiting) // batch // 2 or 1 if waiting < AHEAD else 0):
            await handle.submit_many([{"n": n} for n in range(batch)])
        if waiting >= AHEAD:
            await asyncio.sleep(0.02)


def _summary(lines: dict[str, Any]) -> dict[str, Any]:
    finished = lines["finished"]
    rates = [after - before for before, after in zip(finished, finished[1:], strict=False)][1:-1]
    ordered = sorted(rates)
    return {
        "jobs_per_second": ordered[len(ordered) // 2],
        "slowest_second": ordered[0],
        "seconds": len(rates),
        "jobs": finished[-1],
        "wal_mib_max": round(lines["wal_bytes_max"] / (1 << 20), 1),
        "pages_listed": lines["pages_listed"],
        "per_second": rates,
    }
