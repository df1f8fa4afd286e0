"""Named services over HTTP: calls, broadcasts, who may make them, and how errors are told."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest

from callboard import Call, Callboard, ServiceError, errors, method
from callboard.app import exposure
from callboard.jobs import queue as queues
from callboard.kit import clock
from callboard.roles import service
from callboard.roles.gateway import Gateway, keys
from tests.unit import inhouse

app = Callboard("shop")
now = clock.SystemClock()


class OutOfStock(ServiceError):
    code = "out_of_stock"


class Busy(ServiceError):
    code = "busy"
    retryable = True


RAISED: dict[str, Exception] = {
    "none left": OutOfStock("none left", left=0),
    "busy": Busy("come back later"),
    "bug": ValueError("a\nb"),
    "away": errors.NotActive("the bank is away", ran="no"),
    "conflict": errors.InterfaceConflict("two programs"),
    "late": errors.DeadlineExceeded("too late"),
}


@app.service("billing", active="all")
class Billing:
    @method(idempotent=True)
    async def balance(self, call: Call) -> str:
        return call.domain

    async def charge(self, call: Call, amount: int, note: str | None = None) -> dict[str, Any]:
        return {"amount": amount, "note": note, "raw": b"\xff", "seconds": round((call.deadline - now.boot()) / 1e9)}

    @method
    async def nothing(self) -> None: ...

    @method
    async def fail(self, how: str) -> None:
        raise RAISED[how]

    @method
    async def odd(self) -> int:
        return "odd"  # type: ignore[return-value]


@pytest.fixture
async def node() -> AsyncIterator[inhouse.Inhouse]:
    found = inhouse.Inhouse()
    hosted = service.Service(app.services["billing"], clock=found.clock)
    found.table.add(hosted)
    await hosted.start()
    yield found
    await hosted.stop()


@pytest.fixture
async def gateway(queue: queues.Queue, node: inhouse.Inhouse) -> AsyncIterator[Gateway]:
    async def nobody() -> list[object]:
        return []

    made = Gateway(
        queue, {}, "127.0.0.1", 0, nobody, calls=node, node_connections=lambda: [{"peer": "b" * 32, "direction": "out"}]
    )
    await made.start()
    node.table.add(made)
    yield made
    await made.stop()


async def test_a_call_is_answered(api):
    answer = await api("POST", "/v1/call/billing/charge", {"amount": 5})
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.body == {"result": {"amount": 5, "note": None, "raw": "/w==", "seconds": 10}}
    assert (await api("POST", "/v1/call/billing/nothing")).body == {"result": None}
    assert (await api("POST", "/v1/call/billing/nothing", {})).body == {"result": None}


@pytest.mark.parametrize(
    "path, domain",
    [
        ("/v1/call/billing/balance", "acme"),
        ("/v1/call/billing@acme/balance", "acme"),
        ("/v1/call/billing%40team.acme/balance", "team.acme"),
        ("/v1/call/billing/balance?domain=team.acme", "team.acme"),
        (f"/v1/call/billing/{inhouse.INCARNATION}/balance", "acme"),
        (f"/v1/call/billing@team.acme/{inhouse.INCARNATION}/balance", "team.acme"),
        ("/v1/call/billing@team.acme/balance?timeout=3", "team.acme"),
    ],
)
async def test_a_name_means_the_keys_domain_or_its_own(api, path, domain):
    token = await api.key("calls:invoke", domain="acme")
    assert (await api("POST", path, token=token)).body == {"result": domain}


async def test_seconds_are_carried(api):
    for query, seconds in (("", 10), ("?timeout=2", 2), ("?timeout=60", 60)):
        answer = await api("POST", f"/v1/call/billing/charge{query}", {"amount": 1})
        assert answer.body["result"]["seconds"] == seconds
    for query in ("?timeout=0", "?timeout=61", "?timeout=x", "?patience=3"):
        answer = await api("POST", f"/v1/call/billing/charge{query}", {"amount": 1})
        assert (answer.status, answer.body["code"]) == (422, "invalid_input")


@pytest.mark.parametrize("query", ["", "?timeout=5"])
async def test_keys_reach_what_they_reach(api, query):
    assert (await api("POST", f"/v1/call/billing/balance{query}", token="")).status == 401
    for scope in ("jobs:submit", "jobs:read", "jobs:manage"):
        answer = await api("POST", f"/v1/call/billing/balance{query}", token=await api.key(scope))
        assert (answer.status, answer.body["scope"]) == (403, "calls:invoke")
    token = await api.key("calls:invoke", domain="acme")
    for name in ("billing@main", "billing@globex"):
        assert (await api("POST", f"/v1/call/{name}/balance{query}", token=token)).status == 403
    admin = await api.key("admin", domain="acme")
    assert (await api("POST", f"/v1/call/billing/balance{query}", token=admin)).body == {"result": "acme"}
    answer = await api("POST", f"/v1/call/gateway/connections{query}", token=admin)
    assert (answer.status, answer.body["code"]) == (403, "forbidden")  # Roles are for those who run the whole system.


@pytest.mark.parametrize(
    "how, status, code, retryable",
    [
        ("none left", 422, "out_of_stock", False),
        ("busy", 503, "busy", True),
        ("bug", 422, "service_failed", False),
        ("away", 503, "not_active", True),
        ("conflict", 409, "interface_conflict", False),
        ("late", 504, "deadline_exceeded", False),
    ],
)
async def test_what_a_service_raises_is_a_problem_with_its_code(api, how, status, code, retryable):
    answer = await api("POST", "/v1/call/billing/fail", {"how": how})
    assert (answer.status, answer.body["code"], answer.body["retryable"]) == (status, code, retryable)
    assert answer.body["ran"] == "yes"
    if how == "none left":
        assert (answer.body["detail"], answer.body["left"]) == ("none left", 0)


@pytest.mark.parametrize(
    "path, body, status, code",
    [
        ("billing/charge", {"amount": "much"}, 422, "invalid_arguments"),
        ("billing/charge", {}, 422, "invalid_arguments"),
        ("billing/charge", [5], 422, "invalid_input"),
        ("billing/charge", b"{", 400, "invalid_input"),
        ("billing/charge", {"amount": 1 << 70}, 422, "invalid_input"),
        ("billing/charge", {"amount": 1, "note": "x" * exposure.MAX_BYTES}, 413, "too_large"),
        ("billing/charge", b'"' + b"x" * (1 << 20) + b'"', 413, "too_large"),
        ("billing/steal", {}, 404, "unknown_method"),
        ("billing/odd", {}, 502, "invalid_result"),
        ("nobody/charge", {}, 404, "unknown_name"),
        ("Bill!/charge", {}, 422, "invalid_name"),
        ("billing/nothex/charge", {}, 422, "invalid_name"),
        (f"billing/{'b' * 32}/charge", {}, 404, "unknown_name"),
        ("billing/a/b/charge", {}, 404, "not_found"),
        ("billing", {}, 404, "not_found"),
    ],
)
async def test_bad_input_is_told(api, path, body, status, code):
    answer = await api("POST", f"/v1/call/{path}", body)
    assert (answer.status, answer.body["code"]) == (status, code)
    assert (await api("POST", "/v1/call/billing/nothing")).status == 200


async def test_the_way_with_the_framework_says_the_same(api):
    for body in ({"amount": "much"}, {"amount": 5}):
        plain = await api("POST", "/v1/call/billing/charge", body)
        long = await api("POST", "/v1/call/billing/charge?timeout=10", body)
        assert (plain.status, plain.body) == (long.status, long.body)


async def test_all_open_connections_of_the_system_are_listed(api):
    root = await api.key("admin", domain=".")
    await api("GET", "/v1/jobs")
    async with aiohttp.ClientSession() as other:
        await (await other.get(f"{api.gateway.url}/healthz")).read()
        answer = await api("POST", "/v1/broadcast", {"target": "role:gateway", "method": "connections"}, token=root)
    assert answer.status == 200
    (outcome,) = answer.body["outcomes"]
    assert (outcome["member"], outcome["status"], outcome["code"]) == (f"gateway/{inhouse.INCARNATION}", "ok", None)
    own, others = outcome["result"]["http"]
    assert (own["requests"], others["requests"]) == (2, 1)
    assert re.fullmatch(r"127\.0\.0\.1:\d+", own["peer"])
    assert re.fullmatch(r"2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", own["since"])
    assert outcome["result"]["rpc"] == [{"peer": "b" * 32, "direction": "out"}]
    assert outcome["result"]["open"] == {"http": 2, "rpc": 1}


async def test_every_role_answers_a_ping(api):
    root = await api.key("admin", domain=".")
    answer = await api("POST", f"/v1/call/gateway/{inhouse.INCARNATION}/ping", token=root)
    assert answer.body["result"] == {"role": "gateway", "ready": True, "active": True, "open_requests": 1}


async def test_every_instance_of_a_service_is_asked(api):
    token = await api.key("calls:invoke")
    body = {"target": "service:billing", "method": "charge", "args": {"amount": 3}, "mode": "first", "timeout": 2}
    (outcome,) = (await api("POST", "/v1/broadcast", body, token=token)).body["outcomes"]
    assert (outcome["result"]["amount"], outcome["result"]["seconds"]) == (3, 2)
    (outcome,) = (await api("POST", "/v1/broadcast", {**body, "args": {}}, token=token)).body["outcomes"]
    assert (outcome["status"], outcome["code"], outcome["result"]) == ("error", "invalid_arguments", None)


@pytest.mark.parametrize(
    "body, status",
    [
        ({"target": "billing", "method": "balance"}, 422),
        ({"target": "service:Bill!", "method": "balance"}, 422),
        ({"target": "service:billing"}, 422),
        ({"target": "service:billing", "method": "balance", "mode": "some"}, 422),
        ({"target": "service:billing", "method": "balance", "timeout": 0}, 422),
        ({"target": "service:billing", "method": "balance", "timeout": 61}, 422),
        ({"target": "service:billing", "method": "balance", "colour": 1}, 422),
        ({"target": "role:gateway", "method": "connections"}, 403),
        (b"{", 400),
    ],
)
async def test_a_broadcast_asked_for_badly_is_refused(api, body, status):
    token = await api.key("calls:invoke")
    assert (await api("POST", "/v1/broadcast", body, token=token)).status == status


async def test_a_broadcast_reaches_no_domain_that_its_key_does_not(api):
    body = {"target": "service:billing", "method": "balance"}
    assert (await api("POST", "/v1/broadcast", body, token=await api.key("calls:invoke", domain="acme"))).status == 403
    assert (await api("POST", "/v1/broadcast", body, token=await api.key("jobs:read"))).status == 403


async def test_a_gateway_alone_says_that_it_has_no_way(queue):
    async def nobody() -> list[object]:
        return []

    lonely = Gateway(queue, {}, "127.0.0.1", 0, nobody)
    _, _, token = await keys.create(queue, "test", ["calls:invoke"], "main")
    await lonely.start()
    try:
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
            async with session.post(f"{lonely.url}/v1/call/billing/balance") as answer:
                said = msgspec.json.decode(await answer.read())
                assert (answer.status, said["code"], said["ran"]) == (503, "not_active", "no")
            async with session.get(f"{lonely.url}/readyz") as answer:
                assert msgspec.json.decode(await answer.read()) == {"jobs": "ok", "calls": "unavailable"}
    finally:
        await lonely.stop()


async def test_calls_are_counted_by_their_route(api):
    await api("POST", "/v1/call/billing/nothing")
    await api("POST", "/v1/call/nobody/nothing")
    text = (await api("GET", "/metrics")).body.decode()
    assert 'callboard_http_requests_total{method="POST",route="/v1/call/{name}/{method}",status="200"} 1.0' in text
    assert 'callboard_http_requests_total{method="POST",route="/v1/call/{name}/{method}",status="404"} 1.0' in text


async def test_a_client_that_leaves_hurts_nobody(api):
    host, port = api.gateway.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /v1/call/billing/charge HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\nContent-Length: 9\r\n\r\n"
    writer.write(head.encode() + b"{")
    await writer.drain()
    writer.close()
    assert (await api("POST", "/v1/call/billing/nothing")).status == 200
