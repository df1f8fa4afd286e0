"""Routes of names: list them, ping one, move its office."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from litestar import get, post
from litestar.params import FromPath, QueryParameter, RawBody

from callboard.app import services
from callboard.http import shapes
from callboard.roles.gateway import calls, intake, keys, moving, naming
from callboard.roles.gateway import desk as desks

Prefix = Annotated[str, QueryParameter(description="How the names begin; all, if it is left out.")]
Timeout = Annotated[float, QueryParameter(gt=0, le=calls.MAX_SECONDS, description="Seconds that it may take.")]
_move: Final = msgspec.json.Decoder(shapes.Move)


@get(
    "/v1/names",
    summary="List names, who answers for each, and who stands by",
    description="`stale` says that it is what was known last: coordination is out of reach.",
    opt={"scope": keys.READ},
)
async def listed(desk: desks.TheDesk, caller: desks.TheCaller, prefix: Prefix = "") -> shapes.Names:
    return await naming.listing(desk, prefix)


@get(
    "/v1/names/{name:str}/ping",
    summary="Ask the instance that answers for a name whether it does",
    description="`billing@acme`; without `@` it is the key's domain. `seconds` is the round trip from the gateway. Roles answer"
    " to keys with the scope admin that reach all domains.",
    opt={"scope": keys.INVOKE},
)
async def ping(
    desk: desks.TheDesk, caller: desks.TheCaller, name: FromPath[str], timeout: Timeout = services.CALL_SECONDS
) -> shapes.Answering:
    return await naming.ping(desk, caller.grant, caller.domain, name, timeout)


@get(
    "/v1/names/{name:str}/{incarnation:str}/ping",
    summary="Ask one exact instance whether it answers",
    description="`active` tells whether it holds the office, or stands by.",
    opt={"scope": keys.INVOKE},
)
async def ping_instance(
    desk: desks.TheDesk,
    caller: desks.TheCaller,
    name: FromPath[str],
    incarnation: FromPath[str],
    timeout: Timeout = services.CALL_SECONDS,
) -> shapes.Answering:
    return await naming.ping(desk, caller.grant, caller.domain, f"{name}/{incarnation}", timeout)


@post(
    "/v1/names/{name:str}/move",
    status_code=200,
    summary="Move the office of a name to the next instance that stands by, or to a node",
    description="Answers when the new holder serves. Calls wait meanwhile; what runs is given two seconds to end. The key must"
    " reach all domains.",
    opt={"scope": keys.ADMIN, "body": shapes.Move},
)
async def move(
    desk: desks.TheDesk,
    caller: desks.TheCaller,
    name: FromPath[str],
    body: RawBody,
    timeout: Timeout = services.CALL_SECONDS,
) -> shapes.HandedOver:
    given = intake.read(body, _move) if body else shapes.Move()
    return await moving.move(desk, caller.grant, caller.domain, name, given.to, timeout)


HANDLERS: list[Any] = [listed, ping, ping_instance, move]
