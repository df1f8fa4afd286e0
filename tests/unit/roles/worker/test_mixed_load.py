"""Everything at once, on the loop that nodes run on: each job ends once, whatever its handler does, and nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from pathlib import Path

import uvloop

from callboard import errors
from callboard.app import Callboard, Context, RetryLater, Submitted
from callboard.jobs import queue as queues
from callboard.jobs.engines import sqlite
from callboard.kit import uuid7
from callboard.roles.worker import Worker

JOBS = 400
app = Callboard("mix")


@app.job(attempts=3, backoff=0, timeout=0.05)
async def waits(ctx: Context, n: int) -> int:
    match n % 10:
        case 0:
            raise ValueError
        case 1 if ctx.fence < 3:
            raise RetryLater(0)
        case 2:
            await asyncio.sleep(10)
        case 3:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        case 4:
            raise SystemExit
        case 5:
            async with asyncio.timeout(0.001):
                await asyncio.sleep(10)
        case 6 | 7:
            ctx.progress(n)
            await asyncio.sleep(0.002)
    return n


@app.job(lane="short", attempts=2, backoff=0)
def sleeps(ctx: Context, n: int) -> int:
    time.sleep(0.001)
    ctx.check_cancelled()
    return n


def test_a_mixed_load(tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(mixed_load(f"sqlite:///{str(tmp_path / 'mixed.db').lstrip('/')}"))


async def mixed_load(url: str) -> None:
    chance = random.Random(7)
    stores = [queues.Queue(sqlite.open(url)) for _ in range(2)]
    for store in stores:
        await store.start()
    workers = [await begin(store) for store in stores]
    async with app.connect(stores[0]):
        jobs = await waits.submit_many([{"n": n} for n in range(JOBS)])
        jobs += await sleeps.submit_many([{"n": n} for n in range(JOBS // 4)])
        for job in chance.sample(jobs, 40):
            with contextlib.suppress(errors.StateRefused):
                await job.cancel()
        await workers[0].drain(0.01)
        await workers[0].stop()
        workers[0] = await begin(stores[0])
        ends = await ended(jobs)
    assert ends.total() == len(jobs)
    assert ends["completed"] >= JOBS * 0.4
    for worker, store in zip(workers, stores, strict=True):
        await worker.drain(5)
        await worker.stop()
        await store.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def begin(store: queues.Queue) -> Worker:
    worker = Worker(store, app, node=uuid7.make(store.clock.now()), slots=20, abandon_seconds=1)
    await worker.start()
    return worker


async def ended(jobs: list[Submitted]) -> Counter[str]:
    async with asyncio.timeout(30):
        return Counter([await job.wait() for job in jobs])
