"""Durable throughput: no-op jobs submitted in batches while two workers run them, finished ones are removed and one lists.

The submitter is this process, the workers are a deployment's, and a third process (`sweeper`) removes finished jobs as fast
as they come and lists jobs all the time. Jobs count when their result is stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from callboard.cli.bench import deployment
from callboard.cli.bench.apps import app, noop
from callboard.jobs import engines, hub_hints, model, queue
from callboard.kit import grammar

BATCH = 500
AHEAD = 20_000
"""Jobs in the store that nobody has finished, above which the submitter waits."""
SLOTS = 1_000
SUBMITTERS = 4
"""Tasks of the submitting process that submit a batch each: while one waits for its commit, the other makes its jobs."""


async def measure(seconds: float, *, batch: int = BATCH) -> dict[str, Any]:
    """Return jobs/s (median, slowest second, total), the largest write-ahead log, and how much the reader listed."""
    async with deployment.deploy(workers=2, slots=SLOTS) as made:
        sweeper = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "callboard.cli.bench.sweeper", made.store, str(seconds), stdout=asyncio.subprocess.PIPE
        )
        async with opened(made) as store, app.connect(store):
            await feed(store, seconds, batch, ("bench", "stream"))
        out, _ = await sweeper.communicate()
    return _summary(json.loads(out))


@contextlib.asynccontextmanager
async def opened(made: deployment.Deployment) -> AsyncIterator[queue.Queue]:
    """Open a deployment's store in this process, with its hub."""
    hints = hub_hints.beside(made.data / "callboard.db")
    if hints is not None:
        await hints.start()
    store = queue.Queue(engines.open(made.store), hints=hints)
    await store.start()
    try:
        yield store
    finally:
        await store.stop()
        if hints is not None:
            await hints.stop()


async def feed(store: queue.Queue, seconds: float, batch: int = BATCH, tags: Sequence[str] = ()) -> None:
    """Keep the store fed, not flooded, until the time is over. The app is connected."""
    await asyncio.gather(*(_submit(store, seconds, batch, tags) for _ in range(SUBMITTERS)))


async def _submit(store: queue.Queue, seconds: float, batch: int, tags: Sequence[str]) -> None:
    until = time.monotonic() + seconds
    handle = noop.options(tags=list(tags)) if tags else noop
    args = [{"n": n} for n in range(batch)]
    while time.monotonic() < until:
        counts = await store.counts(grammar.DEFAULT_DOMAIN)
        room = AHEAD - sum(count.jobs for count in counts if count.state not in model.TERMINAL)
        if room < batch * SUBMITTERS:
            await asyncio.sleep(0.01)
        for _ in range(min(room // batch // SUBMITTERS, 8)):
            await handle.submit_many(args)


def _summary(lines: dict[str, Any]) -> dict[str, Any]:
    finished = lines["finished"]
    rates = [after - before for before, after in itertools.pairwise(finished)][1:-1]
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
