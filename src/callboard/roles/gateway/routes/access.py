"""Routes of API keys: make, list, revoke. Only for keys with the scope admin, inside their domain's subtree."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import delete, get, post
from litestar.params import FromPath, RawBody

from callboard.http import shapes
from callboard.kit import grammar
from callboard.roles.gateway import desk as desks
from callboard.roles.gateway import intake, keys, views

_new = msgspec.json.Decoder(shapes.NewKey)


@post(
    "/v1/keys",
    summary="Make an API key",
    description="The token is in this answer and nowhere again: only a hash of it is stored.",
    opt={"scope": keys.ADMIN, "body": shapes.NewKey},
)
async def create(desk: desks.TheDesk, caller: desks.TheCaller, body: RawBody) -> shapes.MintedKey:
    given = intake.read(body, _new)
    domain = caller.domain if given.domain is None else caller.grant.check_domain(given.domain)
    key_id, record, token = await keys.create(desk.queue, given.name, given.scopes, domain)
    return views.minted(key_id, record, token)


@get("/v1/keys", summary="List API keys, oldest first, without their secrets", opt={"scope": keys.ADMIN})
async def listed(desk: desks.TheDesk, caller: desks.TheCaller) -> shapes.Keys:
    reach = caller.grant.domain if caller.domain == caller.grant.home else caller.domain
    found = await keys.listed(desk.queue)
    return shapes.Keys([views.key(id, record) for id, record in found if grammar.inside(record.domain, reach)])


@delete(
    "/v1/keys/{key_id:str}",
    status_code=200,
    summary="Revoke an API key for good",
    description="Requests with it are refused within a second; within five when hints are lost.",
    opt={"scope": keys.ADMIN},
)
async def revoke(desk: desks.TheDesk, caller: desks.TheCaller, key_id: FromPath[str]) -> shapes.Key:
    return views.key(key_id, await keys.revoke(desk.queue, caller.grant, key_id))


HANDLERS: list[Any] = [create, listed, revoke]
