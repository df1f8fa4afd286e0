"""Named services through gateways: from the clients, from an app that is connected to gateways, and from the command line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from callboard import Call, Callboard, CallboardError, ServiceError, SyncClient, errors, method
from callboard.cli import access, calls, exits
from callboard.roles import service

app = Callboard("shop")
runs: list[str] = []


class Receipt(msgspec.Struct):
    amount: int
    at: datetime
    raw: bytes = b""


class OutOfStock(ServiceError):
    code = "nothing_left"


class Busy(ServiceError):
    code = "busy"
    retryable = True


@app.service("billing", active="all")
class Billing:
    @method(idempotent=True)
    async def balance(self, call: Call) -> str:
        return call.domain

    async def charge(self, call: Call, amount: int, at: datetime | None = None) -> Receipt:
        return Receipt(amount, at or datetime(2026, 1, 2, tzinfo=UTC), b"\xff")

    @method
    async def nothing(self) -> None: ...

    @method
    async def fail(self, busy: bool = False) -> None:
        runs.append("fail")
        raise Busy("come back") if busy else OutOfStock("none left", left=0)

    @method
    async def wait(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "waited"


@pytest.fixture(autouse=True)
async def billing(site) -> AsyncIterator[service.Service]:
    runs.clear()
    hosted = service.Service(app.services["billing"], clock=site.node.clock)
    site.node.table.add(hosted)
    await hosted.start()
    yield hosted
    await hosted.stop()


# The client


async def test_a_call_returns_plain_values(client):
    assert await client.call("billing", "charge", {"amount": 5}) == {
        "amount": 5,
        "at": "2026-01-02T00:00:00Z",
        "raw": "/w==",
    }
    assert await client.call("billing", "nothing") is None


async def test_domains_are_the_names_the_calls_or_the_clients(site, client):
    assert await client.call("billing", "balance") == "main"
    assert await client.call("billing@acme", "balance") == "acme"
    assert await client.call("billing", "balance", domain="acme") == "acme"
    assert await client.call("billing@acme", "balance", domain="globex") == "acme"
    other = await site.client(domain="team.acme")
    assert await other.call("billing", "balance") == "team.acme"
    assert await other.call(f"billing/{site.node.table.incarnation}", "balance", timeout=3) == "team.acme"


async def test_errors_of_the_service_keep_code_message_and_data(client):
    with pytest.raises(ServiceError, match="none left") as caught:
        await client.call("billing", "fail")
    error = caught.value
    assert (error.code, error.retryable, error.data) == ("nothing_left", False, {"left": 0, "ran": "yes", "status": 422})


async def test_what_may_have_run_is_not_tried_again(client):
    """Although the answer is a 503, which elsewhere asks to try again."""
    for repeatable in (False, True):
        with pytest.raises(ServiceError, match="come back") as caught:
            await client.call("billing", "fail", {"busy": True}, repeatable=repeatable)
        assert (caught.value.code, caught.value.retryable) == ("busy", True)
    assert (runs, client.retries) == (["fail", "fail"], 0)


@pytest.mark.parametrize(
    "name, method, args, error",
    [
        ("nobody", "balance", None, errors.UnknownName),
        ("billing", "steal", None, errors.UnknownMethod),
        ("billing", "charge", {"amount": "x"}, errors.InvalidArguments),
        ("billing", "charge", {"amount": float("nan")}, errors.InvalidInput),
        ("Bill!", "balance", None, errors.InvalidName),
        ("billing/../jobs", "x", None, errors.InvalidName),
        (None, "balance", None, errors.InvalidName),
        ("billing", "balance/x", None, errors.InvalidName),
        ("billing", None, None, errors.InvalidName),
    ],
)
async def test_bad_input_is_told(client, name, method, args, error):
    with pytest.raises(error):
        await client.call(name, method, args)


@pytest.mark.parametrize("seconds", [0, -1, 61, float("nan"), "10", None])
async def test_a_timeout_is_seconds_that_a_gateway_allows(client, seconds):
    with pytest.raises(errors.InvalidInput, match="seconds over 0, to 60"):
        await client.call("billing", "balance", timeout=seconds)
    with pytest.raises(errors.InvalidInput, match="seconds over 0, to 60"):
        await client.broadcast("service:billing", "balance", timeout=seconds)


async def test_another_gateway_is_asked_when_one_is_gone(site, client):
    first = site.gateways[0]
    await site.open()
    both = await site.client()
    assert await both.call("billing", "balance") == "main"
    await first.stop()
    for _ in range(3):
        assert await both.call("billing", "balance") == "main"


async def test_a_broadcast_tells_what_came_of_each(client, site):
    (good,) = await client.broadcast("service:billing", "balance")
    assert (good.member, good.status, good.result) == (f"billing/{site.node.table.incarnation}", "ok", "main")
    (bad,) = await client.broadcast("service:billing", "charge", {"amount": "x"}, mode="first", timeout=2)
    assert (bad.status, bad.code) == ("error", "invalid_arguments")


async def test_programs_without_a_loop_can_do_it_too(site):
    def program() -> tuple[Any, Any]:
        with SyncClient(site.urls, site.token) as client:
            return client.call("billing", "balance", domain="acme"), client.broadcast("service:billing", "balance")

    balance, (outcome,) = await asyncio.to_thread(program)
    assert (balance, outcome.result) == ("acme", "main")


# The app


async def test_an_app_connected_to_gateways_calls_through_them(site):
    async with app.connect(",".join(site.urls), key=site.token):
        assert await app.call("billing@acme", "balance") == "acme"
        at = datetime(2026, 3, 1, tzinfo=UTC)
        assert await app.name("billing").charge(amount=5, at=at) == Receipt(5, at, b"\xff")
        assert await app.call("billing", "nothing") is None
        (outcome,) = await app.broadcast("service:billing", "charge", {"amount": 1})
        assert outcome.result["amount"] == 1
        with pytest.raises(OutOfStock, match="none left") as caught:
            await app.call("billing", "fail")
        assert (caught.value.code, caught.value.data["left"]) == ("nothing_left", 0)
    with pytest.raises(errors.InvalidInput, match="cannot make calls here"):
        await app.call("billing", "balance")


async def test_an_app_connected_for_a_domain_means_that_domain(site):
    async with app.connect(",".join(site.urls), key=site.token, domain="acme"):
        assert await app.call("billing", "balance") == "acme"
        assert await app.call("billing@globex", "balance") == "globex"


# The command line


@pytest.fixture
def to(site) -> access.Access:
    return access.Access(url=",".join(site.urls), key=site.token)


async def test_the_command_prints_the_result(to, capsys):
    assert await calls.call("billing", "charge", "amount=5", to=to) == exits.Exit.OK
    assert msgspec.json.decode(capsys.readouterr().out)["amount"] == 5
    await calls.call("billing@acme", "balance", timeout=3, to=to)
    assert capsys.readouterr().out == '"acme"\n'
    await calls.call("billing", "nothing", to=access.Access(url=to.url, key=to.key, json=True))
    assert capsys.readouterr().out == '{"result":null}\n'


async def test_the_command_raises_what_came_back(to):
    with pytest.raises(CallboardError) as caught:
        await calls.call("billing", "fail", to=to)
    assert exits.of(caught.value) is exits.Exit.FAILED
    with pytest.raises(errors.UnknownName) as unknown:
        await calls.call("nobody", "fail", to=to)
    assert exits.of(unknown.value) is exits.Exit.NOT_FOUND
    for seconds in (0, 61, float("nan")):
        with pytest.raises(errors.InvalidInput, match="--timeout"):
            await calls.call("billing", "balance", timeout=seconds, to=to)
    with pytest.raises(errors.InvalidInput, match="name=value"):
        await calls.call("billing", "charge", "5", to=to)


async def test_the_command_broadcasts(site, to, capsys):
    member = f"billing/{site.node.table.incarnation}"
    assert await calls.broadcast("service:billing", "balance", to=to) == exits.Exit.OK
    assert capsys.readouterr().out == f"{member}\tok\tmain\n"
    assert await calls.broadcast("service:billing", "fail", to=to) == exits.Exit.FAILED
    assert capsys.readouterr().out == f"{member}\terror\tnone left (nothing_left)\n"
    assert await calls.broadcast("service:billing", "fail", mode="first", to=to) == exits.Exit.FAILED
    await calls.broadcast("service:billing", "balance", to=access.Access(url=to.url, key=to.key, json=True))
    (outcome,) = msgspec.json.decode(capsys.readouterr().out.splitlines()[-1])["outcomes"]
    assert outcome == {"member": member, "status": "ok", "result": "main", "code": None, "message": None}


async def test_the_command_lists_all_open_connections(site, to, capsys):
    site.node.table.add(site.gateways[0])
    assert await calls.broadcast("role:gateway", "connections", to=to) == exits.Exit.OK
    member, status, result = capsys.readouterr().out.strip().split("\t")
    assert (member, status) == (f"gateway/{site.node.table.incarnation}", "ok")
    assert len(msgspec.json.decode(result)["http"]) >= 1
