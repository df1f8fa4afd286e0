"""What clients are told by a gateway that stops under load, or loses its hub: an answer, to ask another one, or nothing."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import uvloop

from callboard.jobs import hub_hints, queue
from callboard.jobs.engines import sqlite
from callboard.kit import codec
from callboard.roles.gateway import Gateway, keys
from callboard.rpc import hub
from tests.unit.roles.gateway.conftest import KINDS

ASKING = 24
"""Clients at the same time."""
ROUNDS = 3


class Caller:
    """Named services, of which each takes a moment."""

    async def call(self, *_: Any, **__: Any) -> bytes:
        await asyncio.sleep(0.01)
        return codec.pack(1, "result")


async def served(directory: Path, leave: Callable[[Gateway, hub.Hub], Awaitable[None]]) -> Counter[Any]:
    """Have a gateway asked for everything that takes its time, and `leave` meanwhile; return the answers by status and code."""
    center = hub.Hub()
    await center.start()
    hub.write_address(directory / hub.FILE, center.address)
    hints, others = hub_hints.HubHints(directory / hub.FILE), hub_hints.HubHints(directory / hub.FILE)
    store = queue.Queue(sqlite.open(f"sqlite:///{directory}/callboard.db"), hints=hints)
    await hints.start()
    await others.start()
    await store.start()
    unlisten = others.listen(lambda _: None)
    gateway = Gateway(store, KINDS, "127.0.0.1", 0, lambda: asyncio.sleep(0, []), calls=Caller())
    await gateway.start()
    _, _, token = await keys.create(store, "first admin", [keys.ADMIN], keys.grammar.ROOT_DOMAIN)
    try:
        return await _asked(gateway, token, leave, center)
    finally:
        await gateway.stop()
        unlisten()
        await store.stop()
        await others.stop()
        await hints.stop()
        await center.stop()


async def _asked(
    gateway: Gateway, token: str, leave: Callable[[Gateway, hub.Hub], Awaitable[None]], center: hub.Hub
) -> Counter[Any]:
    answers: Counter[Any] = Counter()
    job = msgspec.json.encode({"kind": "app.resize"})
    url, over = gateway.url, asyncio.Event()
    async with aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {token}"}) as session:

        async def ask(method: str, path: str, body: bytes | None) -> str:
            async with session.request(method, path, data=body) as response:
                said = msgspec.json.decode(await response.read())
                answers[response.status, said.get("code"), said.get("retryable")] += 1
                return str(said.get("id", ""))

        made = [await ask("POST", "/v1/jobs", job) for _ in range(ASKING)]
        kinds = itertools.cycle(
            [
                lambda id: ask("POST", "/v1/jobs", job),
                lambda id: ask("POST", "/v1/jobs?domain=main", job),
                lambda id: ask("GET", f"/v1/jobs/{id}?wait=20", None),
                lambda id: ask("POST", "/v1/call/billing/who", b"{}"),
                lambda id: ask("POST", "/v1/jobs/batch", b'{"jobs":[%b]}' % job),
                lambda id: ask("GET", "/v1/jobs?limit=5", None),
            ]
        )

        async def client(id: str, kind: Callable[[str], Awaitable[str]]) -> None:
            while not over.is_set():
                try:
                    await kind(id)
                except aiohttp.ClientError:  # Nobody was there, or it left without a word.
                    answers["closed"] += 1
                    await asyncio.sleep(0.005)

        clients = [asyncio.create_task(client(id, kind)) for id, kind in zip(made, kinds, strict=False)]
        seen = answers.total() + 10 * ASKING
        while answers.total() < seen:
            await asyncio.sleep(0.005)
        await leave(gateway, center)
        over.set()
        await asyncio.gather(*clients)
    return answers


async def drained(gateway: Gateway, center: hub.Hub) -> None:
    await gateway.drain(5)


async def cut_off(gateway: Gateway, center: hub.Hub) -> None:
    await gateway.stop()


async def without_hub(gateway: Gateway, center: hub.Hub) -> None:
    """As when the agent starts itself anew: its hub is gone first, its nodes are replaced after that."""
    await center.stop()
    await gateway.drain(5)


@pytest.mark.parametrize("leave", [drained, cut_off, without_hub])
def test_who_is_refused_is_told_to_ask_again(leave: Callable[[Gateway, hub.Hub], Awaitable[None]], tmp_path: Path):
    """On the loop of production."""
    answers: Counter[Any] = Counter()
    for number in range(ROUNDS):
        directory = tmp_path / str(number)
        directory.mkdir()
        answers += uvloop.run(served(directory, leave))
    refused = {said for said in answers if said != "closed" and said[0] >= 400}
    assert all(status == 503 and retryable for status, _, retryable in refused), answers
    assert answers["closed"], "it left while it was asked"
