"""Gateways on one memory store, somebody who works, and clients of all of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from callboard.client import Client
from callboard.coordination import engine as coordination
from callboard.jobs import engine as seam
from callboard.jobs import kinds, model, states
from callboard.jobs import queue as queues
from callboard.jobs.engines import memory
from callboard.kit import codec, uuid7
from callboard.roles.gateway import Gateway, keys
from tests.unit import inhouse

NODE = uuid7.make(1)


class Site:
    """A store, gateways, and a worker that does what `work` says: returns a result, or raises."""

    def __init__(self, queue: queues.Queue, stack: contextlib.AsyncExitStack, token: str) -> None:
        self.queue = queue
        self.token = token
        self.gateways: list[Gateway] = []
        self.node = inhouse.Inhouse()
        """What the gateways' calls reach."""
        self._stack = stack

    @property
    def urls(self) -> list[str]:
        return [gateway.url for gateway in self.gateways]

    async def open(self, port: int = 0) -> Gateway:
        """Start one more gateway."""

        async def entries() -> list[coordination.Entry]:
            return [coordination.Entry("nodes/aa", b'{"incarnation":"aa"}', 1, "node-aa")]

        gateway = Gateway(self.queue, {"app.add": kinds.Kind(name="app.add")}, "127.0.0.1", port, entries, calls=self.node)
        await gateway.start()
        self._stack.push_async_callback(gateway.stop)
        self.gateways.append(gateway)
        return gateway

    async def client(self, **options: Any) -> Client:
        """Return a client of all gateways; it is closed with the test."""
        return await self._stack.enter_async_context(Client(self.urls, self.token, **options))

    async def work(self, how: Callable[[dict[str, Any]], Any], limit: int = 1000) -> int:
        """Run what is there; return how many jobs it was."""
        take = seam.Take("main", "default", model.Lane.LONG, (("app.add", (1,)),), limit)
        _, jobs = await self.queue.exchange([], NODE, [take], limit)
        settles = [self._settled(job, how) for job in jobs]
        await self.queue.exchange(settles, NODE, [], 0)
        return len(jobs)

    async def keep_working(self, how: Callable[[dict[str, Any]], Any], batch: int = 50) -> None:
        """Work until cancelled."""
        while True:
            if not await self.work(how, batch):
                await asyncio.sleep(0.005)

    def _settled(self, job: model.Job, how: Callable[[dict[str, Any]], Any]) -> seam.Settle:
        now = self.queue.clock.now()
        try:
            ended = states.succeeded(job, codec.pack(how(codec.unpack(job.args)), "result"), now)
        except Exception as error:
            ended = states.discarded(job, now, type=type(error).__name__, message=str(error))
        return seam.Settle(job.domain, job.id, NODE, job.fence, ended.outcome, ended.if_cancelled, ended.error)


@pytest.fixture
def engine() -> seam.Engine:
    """The store of a site."""
    return memory.open("memory:")


@pytest.fixture
async def site(engine: seam.Engine) -> AsyncIterator[Site]:
    async with contextlib.AsyncExitStack() as stack:
        queue = queues.Queue(engine)
        await queue.start()
        stack.push_async_callback(queue.stop)
        token = await keys.ensure_admin(queue)
        assert token is not None
        made = Site(queue, stack, token)
        await made.open()
        yield made


@pytest.fixture
async def client(site: Site) -> Client:
    return await site.client()
