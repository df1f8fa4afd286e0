"""A server killed while jobs run: when a bare connection can write again, and how much later the next job ends.

What is asked at the server is the same whether one comes back or another one of a cluster takes over.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import Any, Final

from callboard import errors
from callboard.cli.bench import deployment, hands, private, raw, stream
from callboard.cli.bench.apps import app, noop
from callboard.jobs import queue

KILLS: Final = 5
BACKLOG: Final = 60_000
"""Jobs that wait at a kill: more than are done until it is over."""
HOME_SECONDS: Final = 15.0
"""After which everybody writes at the first server of a cluster again: the one that is killed."""
PATIENCE_SECONDS: Final = 60.0


async def measure(served: private.Served, kills: int = KILLS) -> dict[str, list[float]]:
    """Return seconds, one for each kill: from it until a bare connection wrote, and from that until a job's end was stored."""
    url = await asyncio.to_thread(served.database)
    with contextlib.closing(hands.take("raw", url)) as hand:
        hand.create()
    recovered, later = [], []
    async with deployment.deploy(workers=2, slots=16, store=url) as made:
        for _ in range(kills):
            async with stream.opened(made) as store, app.connect(store):
                await _fill(store, url)
            first, second = await _kill(served, url)
            recovered.append(first)
            later.append(second)
            await asyncio.to_thread(served.start)
            if raw.hosts(url) > 1:
                await asyncio.sleep(HOME_SECONDS)
    return {"recovery": recovered, "first job after it": later}


async def _fill(store: queue.Queue, url: str) -> None:
    """Submit the backlog, and wait until jobs of it end."""
    with contextlib.closing(hands.take("raw", url)) as hand:
        before = await asyncio.to_thread(hand.finished)
        for _ in range(BACKLOG // stream.BATCH):
            await noop.submit_many([{"n": n} for n in range(stream.BATCH)])
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await asyncio.to_thread(hand.finished) == before:  # noqa: ASYNC110  # Nothing tells but the store.
                await asyncio.sleep(0.01)


async def _kill(served: private.Served, url: str) -> tuple[float, float]:
    killed = threading.Event()
    looking = asyncio.create_task(asyncio.to_thread(_look, url, killed))
    await asyncio.to_thread(served.kill)
    killed.set()
    if raw.hosts(url) == 1:  # In a cluster others take over; the killed one comes back afterwards.
        await asyncio.to_thread(served.start)
    return await looking


def _look(url: str, killed: threading.Event) -> tuple[float, float]:
    """Return when a bare connection could write, and when the next job had ended after that, both as seconds since before."""
    killed.wait()
    began = time.monotonic()
    with contextlib.closing(_written(url, began)) as hand:
        wrote = time.monotonic()
        before = hand.finished()
        while hand.finished() == before:
            _patient(began)
            time.sleep(0.002)
        return wrote - began, time.monotonic() - wrote


def _written(url: str, began: float) -> raw.Hand:
    """Try every host until one takes a commit; return the connection."""
    driver: Any = hands.driver(url)
    while True:
        for host in range(raw.hosts(url)):
            with contextlib.suppress(driver.FAILURES):
                hand: raw.Hand = driver.Hand(url, host)
                hand.insert(1)
                return hand
        _patient(began)
        time.sleep(0.002)


def _patient(began: float) -> None:
    if time.monotonic() > began + PATIENCE_SECONDS:
        raise errors.StoreUnavailable(f"nothing happened within {PATIENCE_SECONDS:g} s after the kill")
