"""Messages of a broker that become jobs, beside what bare consumers take from the same broker in the same round.

Either way a message has gone when the broker has its acknowledgement, and the broker is asked: the time is taken between the
first tenth of the messages and the last. The bridge's handlers do nothing, and its store is a file.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from callboard import errors
from callboard.cli.bench import deployment, raw_stomp, samples
from callboard.client import Client
from callboard.kit import clock, uuid7
from callboard.testing.engines import activemq

MESSAGES: Final = 20_000
SLOTS: Final = 500
WORKERS: Final = 2
QUEUE: Final = "callboard.main.default"
"""Which a bridge takes messages from when nothing else is said."""
LATENCIES: Final = 300
_WARM_UP: Final = 20
_BETWEEN_SECONDS: Final = 0.03
_LOOK_SECONDS: Final = 0.02
_PATIENCE_SECONDS: Final = 120.0
_BODY: Final = json.dumps({"kind": "bench.noop", "args": {"n": 256}})


async def measure(broker: activemq.Broker, number: int, messages: int = MESSAGES) -> dict[str, float]:
    """Return messages/s by name: `raw, 1 process`, `raw, 2 processes`, `bridge`; in every other round the other way about."""
    found: dict[str, float] = {}
    for name in ("raw, 1 process", "raw, 2 processes", "bridge")[:: 1 if number % 2 == 0 else -1]:
        await asyncio.to_thread(raw_stomp.fill, broker.url(), QUEUE, _BODY, messages)
        taking = _bridge(broker) if name == "bridge" else _consumers(broker, int(name.split()[1]))
        rate = asyncio.create_task(_rate(broker, messages))  # A bridge begins before its deployment is all there.
        async with taking:
            found[name] = await rate
        await asyncio.to_thread(broker.remove, QUEUE)
    return found


async def latency(broker: activemq.Broker, messages: int = LATENCIES) -> dict[str, float]:
    """Return p50, p99 and the greatest, in milliseconds, from before a message is sent until its handler begins; one by one."""
    boot = clock.SystemClock().boot
    sent: dict[str, int] = {}
    async with _bridge(broker) as made:
        with contextlib.closing(await asyncio.to_thread(raw_stomp.Sender, broker.url(), QUEUE)) as sender:
            for _ in range(messages + _WARM_UP):
                id = uuid7.text(uuid7.make(clock.SystemClock().now()))
                sent[id] = boot()
                await asyncio.to_thread(sender.send, [json.dumps({"kind": "bench.started"})], {"callboard-id": id})
                await asyncio.sleep(_BETWEEN_SECONDS)
        async with Client(made.urls, key=made.key) as client:
            began = {id: (await client.wait(id, 30)).result for id in sent}
    await asyncio.to_thread(broker.remove, QUEUE)
    return samples.milliseconds([(began[id] - at) / 1e9 for id, at in sent.items()][_WARM_UP:])


def _bridge(broker: activemq.Broker) -> contextlib.AbstractAsyncContextManager[deployment.Deployment]:
    given = {"CALLBOARD_BRIDGE_URLS": broker.url()}
    return deployment.deploy(workers=WORKERS, slots=SLOTS, given=given)


@contextlib.asynccontextmanager
async def _consumers(broker: activemq.Broker, processes: int) -> AsyncIterator[None]:
    command = (sys.executable, "-m", "callboard.cli.bench.raw_stomp", broker.url(), QUEUE)
    made = [await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE) for _ in range(processes)]
    try:
        yield
    finally:
        for process in made:
            assert process.stdin is not None
            process.stdin.close()
        for process in made:
            await process.wait()


async def _rate(broker: activemq.Broker, messages: int) -> float:
    """Wait until all have gone; return how many a second did, of those after the first tenth."""
    _, first = await _gone(broker, messages // 10)
    began = time.monotonic()
    last, _ = await _gone(broker, messages)
    return (messages - first) / (last - began)


async def _gone(broker: activemq.Broker, messages: int) -> tuple[float, int]:
    """Wait until so many have gone; return when, and how many it were."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (found := await asyncio.to_thread(_dequeued, broker)) < messages:
        if time.monotonic() > deadline:
            raise errors.StartupError(f"{found} of {messages} messages were taken within {_PATIENCE_SECONDS:g} s")
        await asyncio.sleep(_LOOK_SECONDS)
    return time.monotonic(), found


def _dequeued(broker: activemq.Broker) -> int:
    found: Any = broker.queue(QUEUE)
    return int(found.dequeued)
