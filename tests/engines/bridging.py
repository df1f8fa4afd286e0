"""Nodes that take jobs from brokers, in this process: a worker and a bridge each, all beside one store."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from callboard import errors
from callboard.app import Callboard
from callboard.brokers import address, link
from callboard.jobs import engine as seam
from callboard.jobs import engines, model
from callboard.jobs import queue as queues
from callboard.kit import uuid7
from callboard.roles import bridge, worker

Until = Callable[..., Awaitable[None]]
Broken = Callable[[Sequence[seam.Unit]], Exception | None]


class Store:
    """An engine that fails when it is told to."""

    def __init__(self, url: str = "memory:") -> None:
        self._engine = engines.open(url)
        self.fails: Broken = lambda units: None
        """Asked before each commit."""
        self.forgets: Broken = lambda units: None
        """Asked after each commit: what its answer becomes."""
        self.takes: Callable[[], bool] = lambda: True
        """Asked before each commit: whether there is room for a job."""
        self.commits: list[list[seam.Op]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def apply(self, units: Sequence[seam.Unit]) -> list[seam.UnitResult]:
        if (error := self.fails(units)) is not None:
            raise error
        full = puts(units) and not self.takes()
        refused: list[seam.UnitResult] = [seam.Refused(0, seam.Full(5)) for _ in units]
        results = refused if full else list(self._engine.apply(units))
        self.commits.append([op for unit in units for op in unit])
        if (error := self.forgets(units)) is not None:
            raise error
        return results


def puts(units: Sequence[seam.Unit]) -> bool:
    return any(isinstance(op, seam.Put) for unit in units for op in unit)


class QuickWorker(worker.Worker):
    poll_seconds = 0.05
    renew_seconds = 0.05


class QuickBridge(bridge.Bridge):
    poll_seconds = 0.05


class Node:
    """A worker and a bridge, as a node hosts them, with a queue of their own."""

    def __init__(
        self, store: queues.Queue, app: Callboard, urls: Sequence[str], slots: int, meant: Sequence[str], floor: int
    ) -> None:
        self.store = store
        self.id = uuid7.make(store.clock.now())
        self.answers = bridge.Answers([address.parsed(url) for url in urls], store)
        options = {"slots": slots, "short_floor": floor, "abandon_seconds": 0.05}
        self.worker = QuickWorker(store, app, node=self.id, beside=self.answers.app, **options)
        found = bridge.chosen(meant, self.worker.takes_from)
        door = self.worker.open_door([(each.domain, name) for each in found for name in self.answers.queues()])
        self.bridge = QuickBridge(store, door, app.kinds, self.answers.brokers, found, self.answers)
        door.freed, door.left = self.bridge.freed, self.bridge.left

    async def start(self) -> None:
        await self.worker.start()
        await self.bridge.start()

    async def die(self) -> None:
        """End as by SIGKILL, as far as that goes in a process of others: nothing is settled, acknowledged or handed back."""
        for task in (*self.bridge._tasks, *self.worker._tasks):
            task.cancel()
        self.bridge._intake.look = lambda: None  # type: ignore[method-assign]
        for feed in self.bridge._feeds:
            if feed._link is not None and feed._link._wire is not None:
                feed._link._wire.close()
                feed._forget()
        await self.worker.stop()

    async def stop(self) -> None:
        await self.bridge.drain(10)
        await self.worker.drain(10)
        await self.bridge.stop()
        await self.worker.stop()


class Teller:
    """A client of the broker: sends, and keeps what it is sent."""

    def __init__(self, url: str) -> None:
        self.found: list[link.Message] = []
        self.link = link.Link(address.parsed(url), self)

    def received(self, messages: list[link.Message]) -> None:
        self.found += messages
        self.link.ack(messages)

    def refused(self, subscription: str, error: errors.BrokerRefused) -> None:
        raise error

    def lost(self, why: str) -> None:
        pass

    async def send(self, destination: str, body: object, headers: Mapping[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        await self.link.send(destination, data, headers)

    def words(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(message.body) for message in self.found]


class Bridged:
    """What a test of the bridge works with."""

    def __init__(self, until: Until, url: str) -> None:
        self.until = until
        self.url = url
        self.store = Store()
        self.queue = queues.Queue(self.store)
        self.nodes: list[Node] = []
        self.tellers: list[Teller] = []

    async def node(
        self, app: Callboard, slots: int = 4, meant: Sequence[str] = (), urls: Sequence[str] = (), floor: int = 0
    ) -> Node:
        made = Node(self.queue, app, urls or [self.url], slots, meant, floor)
        self.nodes.append(made)
        await made.start()
        return made

    async def teller(self, url: str = "") -> Teller:
        made = Teller(url or self.url)
        await made.link.open()
        self.tellers.append(made)
        return made

    async def jobs(self, *states: model.State) -> list[model.Job]:
        wanted = frozenset(states) or None
        return (await self.queue.find(seam.Filter(domain="main", states=wanted), 1000)).jobs

    async def job(self, id: bytes) -> model.Job:
        found = await self.queue.get("main", id)
        assert found is not None
        return found

    async def ended(self, number: int, state: model.State = model.State.COMPLETED) -> None:
        async def there() -> bool:
            return len(await self.jobs(state)) >= number

        await self.until(there, 20)


@contextlib.asynccontextmanager
async def bridged(until: Until, url: str) -> AsyncIterator[Bridged]:
    made = Bridged(until, url)
    await made.queue.start()
    try:
        yield made
    finally:
        made.store.fails = made.store.forgets = lambda units: None
        for node in made.nodes:
            await node.stop()
        for teller in made.tellers:
            await teller.link.close()
        await made.queue.stop()
