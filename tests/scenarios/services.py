"""The services of the simulated nodes. Their methods write down who ran what, and may hang when their node says so."""

from __future__ import annotations

import asyncio
from typing import Any

from callboard import Call, Callboard, method
from tests.scenarios import stage as stages

app = Callboard("simulation")


def _node() -> Any:
    """The node on whose loop this runs."""
    return asyncio.get_running_loop().node  # type: ignore[attr-defined]


async def _work(token: str) -> str:
    node = _node()
    stage: stages.Stage = node.stage
    stage.history.ran[token].append(node.incarnation)
    while node.hung:
        await asyncio.sleep(1)
    draw = stage.chance.random()
    if draw < 0.2:
        await asyncio.sleep(draw)
    return str(node.incarnation)


@app.service("ledger", active="one")
class Ledger:
    """One active instance a group."""

    @method(idempotent=True)
    async def balance(self, call: Call, token: str) -> str:
        return await _work(token)

    async def charge(self, call: Call, token: str) -> str:
        return await _work(token)


@app.service("cache", active="all")
class Cache:
    """Every instance serves."""

    @method(idempotent=True)
    async def get(self, call: Call, token: str) -> str:
        return await _work(token)

    async def act(self, call: Call, key: str) -> str:
        node = _node()
        node.stage.history.acted[key].append(node.incarnation)
        return str(node.incarnation)
