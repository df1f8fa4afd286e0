"""Routes of servers: list them, drain them, take that back, renew what runs there."""

from __future__ import annotations

from typing import Any

from litestar import delete, get, post
from litestar.params import FromPath, FromQuery

from callboard.http import shapes
from callboard.roles.gateway import desk as desks
from callboard.roles.gateway import keys, wishing


@get("/v1/servers", summary="List the servers whose agents live, and what is wished of them", opt={"scope": keys.READ})
async def listed(desk: desks.TheDesk, caller: desks.TheCaller) -> shapes.Servers:
    return await wishing.servers(desk)


@post(
    "/v1/servers/{server:str}/drain",
    status_code=200,
    summary="Drain a server",
    description="Its nodes take no work any more and end; it stays empty until this is taken back with DELETE. The last server"
    " that has something is drained with `force` alone, the one with the last gateway not at all. On one machine its name is"
    " `local`. The key must reach all domains.",
    opt={"scope": keys.ADMIN},
)
async def drain(
    desk: desks.TheDesk, caller: desks.TheCaller, server: FromPath[str], force: FromQuery[bool] = False
) -> shapes.Wished:
    return await wishing.wish_server(desk, caller.grant, server, "drain", force=force)


@delete(
    "/v1/servers/{server:str}/drain",
    status_code=200,
    summary="Take the drain of a server back: it serves again",
    opt={"scope": keys.ADMIN},
)
async def undrain(desk: desks.TheDesk, caller: desks.TheCaller, server: FromPath[str]) -> shapes.TakenBack:
    return await wishing.take_back(desk, caller.grant, server)


@post(
    "/v1/servers/{server:str}/renew",
    status_code=200,
    summary="Renew a server: its nodes are replaced one after another",
    description="Its agent starts itself anew from its file before. The wish is gone from the list of servers when all is done.",
    opt={"scope": keys.ADMIN},
)
async def renew(desk: desks.TheDesk, caller: desks.TheCaller, server: FromPath[str]) -> shapes.Wished:
    return await wishing.wish_server(desk, caller.grant, server, "renew")


HANDLERS: list[Any] = [listed, drain, undrain, renew]
