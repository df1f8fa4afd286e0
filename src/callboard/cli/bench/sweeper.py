"""A process of the throughput measurement: removes finished jobs, lists jobs all the time, and counts each second.

    python -m callboard.cli.bench.sweeper STORE SECONDS

It removes what retention would remove much later (a finished job is kept for 20 minutes at the least, for the sake of
repeated submissions), by the same operation and at the rate at which jobs finish. Prints one JSON object at the end.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

from callboard.jobs import engine as seam
from callboard.jobs import engines, model, queue
from callboard.kit import grammar

KEEP = 100_000
"""Finished jobs left in the store."""
LIMIT = 2_000


async def sweep(store: str, seconds: float) -> dict[str, Any]:
    """Measure for `seconds`; see the module."""
    engine = engines.open(store)
    jobs = queue.Queue(engine)
    await jobs.start()
    removed = [0]
    listed = [0]
    tasks = [asyncio.create_task(_remove(jobs, removed)), asyncio.create_task(_list(jobs, listed))]
    log = store.removeprefix("sqlite://") + "-wal"
    finished, largest = [], 0
    began = time.monotonic()
    for second in range(round(seconds) + 1):
        await asyncio.sleep(max(0, began + second - time.monotonic()))
        counts = await jobs.counts(grammar.DEFAULT_DOMAIN)
        finished.append(removed[0] + sum(count.jobs for count in counts if count.state in model.TERMINAL))
        largest = max(largest, os.stat(log).st_size)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await jobs.stop()
    return {"finished": finished, "wal_bytes_max": largest, "pages_listed": listed[0]}


async def _remove(jobs: queue.Queue, removed: list[int]) -> None:
    while True:
        op = seam.Purge(grammar.DEFAULT_DOMAIN, before=0, keep=KEEP, spare=jobs.clock.now(), limit=LIMIT)
        (result,) = await jobs.write([(op,)])
        gone = result[0].jobs if isinstance(result, tuple) and isinstance(result[0], seam.Purged) else 0
        removed[0] += gone
        if gone < LIMIT:
            await asyncio.sleep(0.02)


async def _list(jobs: queue.Queue, listed: list[int]) -> None:
    filters = [
        seam.Filter(domain=grammar.DEFAULT_DOMAIN),
        seam.Filter(domain=grammar.DEFAULT_DOMAIN, tag="stream"),
        seam.Filter(domain=grammar.DEFAULT_DOMAIN, states=frozenset({model.State.COMPLETED})),
    ]
    while True:
        for filter in filters:
            await jobs.find(filter, 50)
            listed[0] += 1
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(sweep(sys.argv[1], float(sys.argv[2])))))
