"""Who calls the services of three servers all the time, and who looks whose terms it are: all is noted in the chronicle."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Any, Final

import msgspec

from callboard import errors
from callboard.client import Client
from callboard.jobs import engines, terms
from callboard.kit import grammar
from tests.faults import load
from tests.faults.deployment import boot
from tests.faults.servers.chronicle import Acknowledged, Answered, Failed, Term
from tests.faults.servers.cluster import Cluster

NAMES: Final = ("billing@main", "billing@north")
CALL_SECONDS: Final = 5.0
TRY_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 0.02
LOOK_SECONDS: Final = 0.5
SHORTEST_SECONDS, LONGEST_SECONDS = 0.01, 0.5


def args() -> Mapping[str, Any]:
    """Those of a job of 10 to 500 ms."""
    return {"seconds": random.uniform(SHORTEST_SECONDS, LONGEST_SECONDS)}


class Seen:
    """What came of calls that may be repeated, since `used` began."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._from = len(cluster.chronicle.events)
        self.load: load.Load

    def answers(self, name: str = "") -> list[Answered]:
        """Return the answers, by the time that they came."""
        events = self._cluster.chronicle.events[self._from :]
        return [each for each in events if isinstance(each, Answered) and not each.mark and name in ("", each.name)]

    def failures(self) -> list[Failed]:
        """Return what callers were told of calls that may be repeated."""
        events = self._cluster.chronicle.events[self._from :]
        return [each for each in events if isinstance(each, Failed) and not each.mark]

    def begun(self) -> bool:
        return {each.name for each in self.answers()} == set(NAMES)

    def asked_after(self, at: int) -> bool:
        """Whether everybody was answered what was asked after a time."""
        return {each.name for each in self.answers() if each.asked > at} == set(NAMES)

    def answered_at(self, name: str, after: int) -> int | None:
        """Return when a caller of a name was first answered under an epoch greater than this one."""
        return next((each.at for each in self.answers(name) if each.epoch > after), None)

    def stored_at(self, asked: int) -> int | None:
        """Return when a job was first acknowledged that was submitted after a time."""
        events = self._cluster.chronicle.events[self._from :]
        return next((each.at for each in events if isinstance(each, Acknowledged) and each.asked > asked), None)

    def longest_gap(self) -> float:
        """Seconds that a caller of a name was without an answer at most."""
        pairs = (pair for name in NAMES for pair in itertools.pairwise(self.answers(name)))
        return max(((after.at - before.at) / 1e9 for before, after in pairs), default=0.0)


@contextlib.asynccontextmanager
async def at(cluster: Cluster, flows: int = 2) -> AsyncIterator[Seen]:
    """Submit jobs and call services meanwhile, each client with all gateways, and look at the terms."""
    urls, key = cluster.servers[0].access()
    seen = Seen(cluster)
    async with contextlib.AsyncExitStack() as open_:
        store = await asyncio.to_thread(engines.open, cluster.store)
        open_.push_async_callback(asyncio.to_thread, store.close)
        clients = [await open_.enter_async_context(Client(urls, key, timeout=TRY_SECONDS)) for _ in (*NAMES, NAMES[0])]
        calls = [_repeated(cluster, client, name) for client, name in zip(clients, NAMES, strict=False)]
        tasks = [asyncio.create_task(each) for each in (*calls, _once(cluster, clients[-1], NAMES[0]), _look(cluster, store))]
        open_.push_async_callback(_ended, tasks)
        seen.load = await open_.enter_async_context(load.on(cluster.servers[0], flows, args=args))
        await cluster.servers[0].eventually(seen.begun)
        yield seen
        for task in tasks:
            if task.done():
                task.result()
    assert cluster.chronicle.of(Term), "the store has told of no term"


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def _repeated(cluster: Cluster, client: Client, name: str) -> None:
    while True:
        await _noted(cluster, name, "", client.call(name, "who", timeout=CALL_SECONDS, repeatable=True))


async def _once(cluster: Cluster, client: Client, name: str) -> None:
    while True:
        mark = uuid.uuid4().hex
        await _noted(cluster, name, mark, client.call(name, "charge", {"mark": mark}, timeout=CALL_SECONDS))


async def _noted(cluster: Cluster, name: str, mark: str, call: Awaitable[Any]) -> None:
    asked = boot()
    try:
        said = await call
    except errors.CallboardError as error:
        ran = str(error.data.get("ran", "unknown"))
        cluster.chronicle.note(Failed(name=name, code=error.code, ran=ran, asked=asked, at=boot(), mark=mark))
    else:
        cluster.chronicle.note(Answered(name=name, pid=said["pid"], epoch=said["epoch"], asked=asked, at=boot(), mark=mark))
    await asyncio.sleep(PAUSE_SECONDS)


async def _look(cluster: Cluster, store: Any) -> None:
    """Ask the store for the terms; it may be away."""
    while True:
        with contextlib.suppress(errors.StoreError):
            for found in await asyncio.to_thread(store.documents, grammar.ROOT_DOMAIN, terms.FOLDER):
                holder = msgspec.json.decode(found.body, type=terms.Holder)
                term = Term(scope=found.path, number=found.version, incarnation=holder.incarnation, at=boot())
                cluster.chronicle.note(term)
        await asyncio.sleep(LOOK_SECONDS)
