"""The cluster view over HTTP: at once, when it changes, and from whichever gateway answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from callboard import errors
from callboard.client import Client, SyncClient
from callboard.cluster import view, watching
from callboard.jobs import queue as queues
from callboard.jobs.engines import memory
from callboard.roles.gateway import Gateway, keys


class Pair:
    """Two gateways that know different views, and a client of both."""

    def __init__(self, gateways: list[Gateway], known: list[watching.Watched], token: str) -> None:
        self.gateways = gateways
        self.known = known
        self.token = token

    @property
    def urls(self) -> list[str]:
        return [each.url for each in self.gateways]

    def put(self, serial: int, *names: str, stale: bool = False) -> None:
        nodes = {name: view.Node(incarnation=name, roles=("worker",)) for name in names}
        for each in self.known:
            each.put(view.View(nodes=nodes, version=view.Version(7, serial), stale=stale))


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    queue = queues.Queue(memory.open("memory:"))
    await queue.start()
    _, _, token = await keys.create(queue, "reader", [keys.READ], "main")
    known = [watching.Watched(), watching.Watched()]
    gateways = [Gateway(queue, {}, "127.0.0.1", 0, _nobody, view=each) for each in known]
    for gateway in gateways:
        await gateway.start()
    yield Pair(gateways, known, token)
    for gateway in gateways:
        await gateway.stop()
    await queue.stop()


async def _nobody() -> list[Any]:
    return []


async def test_a_view_is_read_with_what_it_can_answer(pair: Pair) -> None:
    pair.put(3, "a", "b")
    async with Client(pair.urls, pair.token) as client:
        found = await client.view()
    assert (found.version, found.stale, found.mark) == (view.Version(7, 3), False, "7.3")
    assert [node.incarnation for node in found.available("worker")] == ["a", "b"]
    assert found.ring("worker").pick("key").incarnation in "ab"
    with SyncClient(pair.urls, pair.token) as sync:
        assert await asyncio.to_thread(sync.view) == found


async def test_a_newer_one_is_waited_for(pair: Pair) -> None:
    pair.put(3, "a")
    async with Client(pair.urls, pair.token) as client:
        seen = await client.view()
        began = time.monotonic()
        assert await client.view(seen, 0.2) == seen
        assert time.monotonic() - began >= 0.2
        waiting = asyncio.create_task(client.view(seen, 30))
        while not any(each._waiting for each in pair.known):
            await asyncio.sleep(0.005)
        pair.put(3, "a", stale=True)
        assert (await waiting).stale


async def test_changes_are_watched(pair: Pair) -> None:
    pair.put(3, "a")
    async with Client(pair.urls, pair.token) as client:
        changes = client.watch_view()
        assert [node.incarnation for node in (await anext(changes)).nodes] == ["a"]
        pair.put(4, "b")
        change = await anext(changes)
        assert [node.incarnation for node in (*change.nodes, *change.gone_nodes)] == ["b", "a"]
        await changes.aclose()


async def test_a_gateway_that_drains_answers_who_waits(pair: Pair) -> None:
    pair.put(3, "a")
    async with Client(pair.urls[:1], pair.token) as client:
        seen = await client.view()
        waiting = asyncio.create_task(client.view(seen, 30))
        while not pair.known[0]._waiting:
            await asyncio.sleep(0.005)
        await pair.gateways[0].drain(5)
        assert await waiting == seen


async def test_what_is_no_mark_is_refused(pair: Pair) -> None:
    class Odd(view.View, frozen=True, kw_only=True):
        mark = "yesterday"  # type: ignore[assignment]

    async with Client(pair.urls, pair.token) as client:
        with pytest.raises(errors.InvalidInput, match="no mark of a view"):
            await client.view(Odd(), 1)


async def test_a_gateway_without_a_node_says_so(pair: Pair) -> None:
    queue = queues.Queue(memory.open("memory:"))
    await queue.start()
    _, _, token = await keys.create(queue, "reader", [keys.READ], "main")
    lone = Gateway(queue, {}, "127.0.0.1", 0, _nobody)
    await lone.start()
    async with Client([lone.url], token, timeout=1) as client:
        with pytest.raises(errors.NotActive):
            await client.view()
    await lone.stop()
    await queue.stop()
