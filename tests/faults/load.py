"""Submitters who never give up: each makes an id of its own and sends the job until it is acknowledged, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from callboard import errors
from callboard.client import Client
from callboard.kit import clock, uuid7
from tests.faults.deployment import Deployment, boot

TRY_SECONDS = 3.0
"""Of one submission, after which the same is sent anew: shorter than outages, so that both sides see it twice."""
PAUSE_SECONDS = 0.05
END_SECONDS = 15.0
"""In which the last submissions of all flows are acknowledged, once the store serves."""


class Load:
    """What some flows of submissions have seen so far. Times are CLOCK_BOOTTIME in nanoseconds."""

    def __init__(self, args: Callable[[], Mapping[str, Any]] = dict) -> None:
        self.args = args
        """Makes those of the next job."""
        self.acknowledged: list[int] = []
        """When; one for each job."""
        self.refused: Counter[str] = Counter()
        """Codes of the errors that ended a try."""
        self.again = 0
        """Jobs that were there already when they were acknowledged: a try before had stored them, and nobody knew."""
        self.over = False

    def since(self, at: int) -> int:
        """How many were acknowledged after a moment."""
        return sum(each > at for each in self.acknowledged)


def more(seen: Load, jobs: int) -> Callable[[], bool]:
    """Return the condition that so many more were acknowledged from now on."""
    since = boot()
    return lambda: seen.since(since) >= jobs


@contextlib.asynccontextmanager
async def on(
    deployment: Deployment, flows: int = 4, kind: str = "nap", args: Callable[[], Mapping[str, Any]] = dict
) -> AsyncIterator[Load]:
    """Have that many flows submit small jobs meanwhile; at the end, each has its last one acknowledged."""
    seen = Load(args)
    urls, key = deployment.access()
    async with Client(urls, key, timeout=TRY_SECONDS) as client:
        tasks = [asyncio.create_task(_flow(deployment, client, seen, kind)) for _ in range(flows)]
        try:
            yield seen
            seen.over = True
            _, hang = await asyncio.wait(tasks, timeout=END_SECONDS)
            assert not hang, f"{len(hang)} submissions were not acknowledged: {seen.refused}; {deployment.log()}"
            for task in tasks:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def _flow(deployment: Deployment, client: Client, seen: Load, kind: str) -> None:
    while not seen.over:
        id = uuid7.text(uuid7.make(clock.SystemClock().now()))
        args, asked = seen.args(), boot()
        while True:
            try:
                receipt = await client.submit(f"{deployment.APP}.{kind}", args, id=id)
                break
            except (errors.StoreUnavailable, errors.StoreFull, errors.Unreachable) as error:
                seen.refused[error.code] += 1
        deployment.acknowledged.append(id)
        seen.acknowledged.append(boot())
        deployment.note(id, asked, receipt.created)
        seen.again += not receipt.created
        await asyncio.sleep(PAUSE_SECONDS)
