"""Routes of nodes: who is alive, and who is to end."""

from __future__ import annotations

from typing import Any

from litestar import get, post
from litestar.params import FromPath

from callboard.http import shapes
from callboard.roles.gateway import desk as desks
from callboard.roles.gateway import keys, wishing


@get(
    "/v1/nodes",
    summary="List the live nodes",
    description="`partial` says that coordination is out of reach: only nodes of the server that answers are listed.",
    opt={"scope": keys.READ},
)
async def listed(desk: desks.TheDesk, caller: desks.TheCaller) -> shapes.Nodes:
    nodes = await desk.roster.nodes()
    return shapes.Nodes(nodes, desk.roster.partial)


@post(
    "/v1/nodes/{incarnation:str}/drain",
    status_code=200,
    summary="Drain a node: it takes no work any more and ends, and another one is started in its place",
    description="By its id, or the end of that. The key must reach all domains.",
    opt={"scope": keys.ADMIN},
)
async def drain(desk: desks.TheDesk, caller: desks.TheCaller, incarnation: FromPath[str]) -> shapes.Wished:
    return await wishing.drain_node(desk, caller.grant, incarnation)


HANDLERS: list[Any] = [listed, drain]
