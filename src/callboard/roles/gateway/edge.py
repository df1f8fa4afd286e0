"""The outermost ASGI application: counts requests, and answers submissions and calls without the framework behind it.

`POST /v1/jobs` and `POST /v1/call/...` are what a busy system does thousands of times a second; a framework's routing, injection
and response objects cost more than everything else in them. So the edge answers exactly those paths itself, by the same
`intake.one` and `calls.one` that the routes of the framework call for every other spelling; everything else passes through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import Any, Final

from callboard import errors
from callboard.roles.gateway import calls, intake, keys, problems
from callboard.roles.gateway import desk as desks

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Serve = Callable[[keys.Grant, str, Receive], Awaitable[tuple[int, bytes]]]
"""Answers one request of a known caller: the status, and a document in JSON."""

SUBMIT_PATH: Final = "/v1/jobs"
CALL_PATH: Final = "/v1/call/"
CALL_ROUTE: Final = "/v1/call/{name}/{method}"
_JSON: Final = (b"content-type", b"application/json")


class Edge:
    """Wraps the framework's application `site`."""

    def __init__(self, site: App, desk: desks.Desk) -> None:
        self._site = site
        self._desk = desk
        self._metrics = desk.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        began = perf_counter()
        self._metrics.open_requests += 1
        try:
            path = scope["path"]
            plain = scope["method"] == "POST" and not scope["query_string"]
            if plain and path == SUBMIT_PATH:
                status, route = await self._served(self._submit, scope, receive, send), SUBMIT_PATH
            elif plain and path.startswith(CALL_PATH) and 1 <= path.count("/", len(CALL_PATH)) <= 2:
                status, route = await self._served(self._call, scope, receive, send), CALL_ROUTE
            else:
                status = await self._pass_on(scope, receive, send)
                route = scope.get("path_template") or "unknown"
        finally:
            self._metrics.open_requests -= 1
        self._metrics.count(scope["method"], route, status, perf_counter() - began)

    async def _served(self, serve: Serve, scope: Scope, receive: Receive, send: Send) -> int:
        try:
            grant = await self._grant(scope["headers"])
            status, body = await serve(grant, scope["path"], receive)
        except _Disconnected:
            return 499
        except asyncio.CancelledError:
            return await _answer(send, _cut_off())
        except Exception as error:
            return await _answer(send, problems.answer(error))
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": status, "headers": [_JSON, length]})
        await send({"type": "http.response.body", "body": body})
        return status

    async def _submit(self, grant: keys.Grant, path: str, receive: Receive) -> tuple[int, bytes]:
        grant.check_scope(keys.SUBMIT)
        return await intake.one(self._desk, grant, grant.home, await _body(receive, desks.MAX_BODY))

    async def _call(self, grant: keys.Grant, path: str, receive: Receive) -> tuple[int, bytes]:
        grant.check_scope(keys.INVOKE)
        name, _, method = path[len(CALL_PATH) :].rpartition("/")
        return 200, await calls.one(self._desk, grant, grant.home, name, method, await _body(receive, desks.MAX_BODY))

    async def _grant(self, headers: list[tuple[bytes, bytes]]) -> keys.Grant:
        authorization = desks.authorization(headers)
        keyring = self._desk.keyring
        return keyring.recall(authorization) or await keyring.grant(authorization)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> int:
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._site(scope, receive, watched)
        except asyncio.CancelledError:
            if status == 0:
                return await _answer(send, _cut_off())
        return status


class _Disconnected(Exception):
    """The client left before its request was complete."""


async def _body(receive: Receive, limit: int) -> bytes:
    """Return a request's whole body. Raises TooLarge as soon as it is over `limit` bytes."""
    message = await receive()
    body: bytes = message.get("body", b"")
    parts, size = [body], len(body)
    while message.get("more_body") and size <= limit:
        message = await receive()
        body = message.get("body", b"")
        parts.append(body)
        size += len(body)
    if message["type"] == "http.disconnect":
        raise _Disconnected
    if size > limit:
        raise problems.too_large(limit)
    return body if len(parts) == 1 else b"".join(parts)


def _cut_off() -> problems.Answer:
    """What is said to requests that outlived the grace time of a gateway that stops."""
    return problems.answer(errors.StoreUnavailable("this gateway stops and cut the request off: ask another one", unknown=True))


async def _answer(send: Send, answer: problems.Answer) -> int:
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "http.response.body", "body": answer.body})
    return answer.status
