"""Routes of nodes: who is alive."""

from __future__ import annotations

from typing import Any

from litestar import get

from callboard.http import shapes
from callboard.roles.gateway import desk as desks
from callboard.roles.gateway import keys


@get("/v1/nodes", summary="List the live nodes", opt={"scope": keys.READ})
async def listed(desk: desks.TheDesk, caller: desks.TheCaller) -> shapes.Nodes:
    return shapes.Nodes(await desk.roster.nodes())


HANDLERS: list[Any] = [listed]
