"""Routes of named services: call one, or all of a kind."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Response, post
from litestar.params import FromPath, QueryParameter, RawBody

from callboard.app import services
from callboard.http import shapes
from callboard.roles.gateway import calls, keys
from callboard.roles.gateway import desk as desks

Timeout = Annotated[float, QueryParameter(gt=0, le=calls.MAX_SECONDS, description="Seconds that the call may take.")]
_OPT: dict[str, Any] = {"scope": keys.INVOKE, "body": dict[str, Any], "returns": shapes.Called}


@post(
    "/v1/call/{name:str}/{method:str}",
    status_code=200,
    summary="Call a method of a named service",
    description="`billing@acme`; without `@` it is the key's domain. The body has the named arguments; it may be left out.",
    opt=_OPT,
)
async def call(
    desk: desks.TheDesk,
    caller: desks.TheCaller,
    name: FromPath[str],
    method: FromPath[str],
    body: RawBody,
    timeout: Timeout = services.CALL_SECONDS,
) -> Response[bytes]:
    answer = await calls.one(desk, caller.grant, caller.domain, name, method, body, timeout)
    return Response(answer, media_type="application/json")


@post(
    "/v1/call/{name:str}/{incarnation:str}/{method:str}",
    status_code=200,
    summary="Call a method of one exact instance",
    description="`cache` and the incarnation of its node. Roles answer to keys with the scope admin that reach all domains.",
    opt=_OPT,
)
async def call_instance(
    desk: desks.TheDesk,
    caller: desks.TheCaller,
    name: FromPath[str],
    incarnation: FromPath[str],
    method: FromPath[str],
    body: RawBody,
    timeout: Timeout = services.CALL_SECONDS,
) -> Response[bytes]:
    answer = await calls.one(desk, caller.grant, caller.domain, f"{name}/{incarnation}", method, body, timeout)
    return Response(answer, media_type="application/json")


@post(
    "/v1/broadcast",
    status_code=200,
    summary="Call every instance of a role or service",
    description="`role:gateway` or `service:cache`; an outcome for each recipient. Roles need a key with the scope admin that"
    " reaches all domains.",
    opt={"scope": keys.INVOKE, "body": shapes.Broadcast},
)
async def broadcast(desk: desks.TheDesk, caller: desks.TheCaller, body: RawBody) -> shapes.Outcomes:
    return await calls.many(desk, caller.grant, body)


HANDLERS: list[Any] = [call, call_instance, broadcast]
