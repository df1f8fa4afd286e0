"""One round on one store: the bare driver's limit, the job engine alone, and Callboard from end to end, one after the other.

Each works on an empty store of its own, with the same number of jobs, in batches of the same size. In every other round the order
is turned, so that what a machine does meanwhile meets all of them alike.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from callboard.cli.bench import deployment, hands, private, stream
from callboard.cli.bench.apps import app
from callboard.jobs import model, queue
from callboard.kit import grammar

JOBS: Final = 20_000
"""Jobs of each of the two processes that insert, claim and end, an order apart or in turns."""
VERBS: Final = ("insert", "claim", "end")
WARM_UP_SECONDS: Final = 2.0

Figures = dict[str, float]


async def measure(served: private.Served, number: int, seconds: float, jobs: int = JOBS) -> Figures:
    """Return jobs/s by name: `raw insert`, `engine claim`, `raw cycle`, `end to end`, …"""
    found: Figures = {}
    parts: list[Callable[[], Awaitable[Figures]]] = [
        lambda: _hands("raw", served, jobs),
        lambda: _hands("engine", served, jobs),
        lambda: _end_to_end(served, seconds),
    ]
    for part in parts if number % 2 == 0 else reversed(parts):
        found |= await part()
    return found


async def _hands(kind: str, served: private.Served, jobs: int) -> Figures:
    found: Figures = {}
    url = await asyncio.to_thread(served.database)
    if kind == "raw" and not hands.has_raw(url):
        return found
    async with hands.pair(kind, url) as pair:
        await pair.create()
        for verb in VERBS:
            found[f"{kind} {verb}"] = await pair.rate(verb, jobs)
        await pair.create()
        found[f"{kind} cycle"] = await pair.rate("cycle", jobs)
    return found


async def _end_to_end(served: private.Served, seconds: float) -> Figures:
    return {"end to end": await rate(await asyncio.to_thread(served.database), seconds)}


async def rate(url: str, seconds: float) -> float:
    """Return how many jobs/s two workers finish while this process submits."""
    async with deployment.deploy(workers=2, slots=stream.SLOTS, store=url) as made:
        return await flow(made, seconds)


async def flow(made: deployment.Deployment, seconds: float) -> float:
    """Return how many jobs/s the workers of a deployment finish while this process submits."""
    async with stream.opened(made) as store, app.connect(store):
        feeding = asyncio.create_task(stream.feed(store, WARM_UP_SECONDS + seconds))
        await asyncio.sleep(WARM_UP_SECONDS)
        before, began = await finished(store), time.monotonic()
        await feeding
        return (await finished(store) - before) / (time.monotonic() - began)


async def finished(store: queue.Queue) -> int:
    """Return the number of finished jobs."""
    return sum(count.jobs for count in await store.counts(grammar.DEFAULT_DOMAIN) if count.state in model.TERMINAL)
