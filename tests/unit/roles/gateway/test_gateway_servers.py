"""What operators want of servers and nodes, over HTTP: what is written down, what is refused, who may ask."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from callboard.cluster import wishes
from callboard.coordination import engine as coordination
from callboard.coordination.engines import memory
from callboard.jobs import queue as queues
from callboard.names import model
from callboard.roles.gateway import Gateway

A, B, C = (f"0192{number:028x}" for number in (0xA1, 0xB1, 0xC1))


def node(incarnation: str, server: str, *roles: str, kinds: tuple[str, ...] = (), service: str = "") -> coordination.Entry:
    offers = [{"kind": "role", "label": role} for role in ("node", *roles)]
    offers += [{"kind": "service", "label": service}] if service else []
    said = {
        "incarnation": incarnation,
        "server": server,
        "offers": offers,
        "roles": [{"role": "worker", "kinds": {kind: [1] for kind in kinds}}] if kinds else [{"role": role} for role in roles],
    }
    return coordination.Entry(f"nodes/{incarnation}", msgspec.json.encode(said), 1, f"node-{incarnation}")


@pytest.fixture
async def session() -> AsyncIterator[coordination.Session]:
    engine = memory.MemoryEngine(memory.Site(), session_seconds=600.0)
    made = await engine.session("node-g")
    yield made
    await made.close()


@pytest.fixture
async def gateway(
    queue: queues.Queue, entries: list[coordination.Entry], session: coordination.Session
) -> AsyncIterator[Gateway]:
    async def read() -> list[coordination.Entry]:
        return entries

    made = Gateway(queue, {}, "127.0.0.1", 0, read, coordination=session)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def root(api: Any) -> str:
    return await api.key("admin", domain=".")


Say = Callable[..., Awaitable[None]]


@pytest.fixture
def say(session: coordination.Session) -> Say:
    """Say what an agent says of its server."""

    async def told(server: str, **facts: Any) -> None:
        said = model.ServerFacts(agent=f"{server or 'one'}-agent", server=server, site="main", software="1.0", **facts)
        await session.apply([coordination.Create(f"servers/{said.agent}", msgspec.json.encode(said))])

    return told


async def test_servers_are_listed_with_what_is_wished_of_them(api, root, say, entries, session):
    await say("s2", state="draining", trouble="node cannot start")
    await say("s1", file=4)
    await session.apply([coordination.Create("servers/broken", b"\xff")])
    entries += [node(A, "s1", "gateway"), node(B, "s1", "worker"), node(C, "s2", "worker")]
    assert (await api("POST", "/v1/servers/s1/renew", token=root)).status == 200
    one, two = (await api("GET", "/v1/servers")).body["servers"]
    assert (one["server"], one["site"], one["software"], one["file"], one["nodes"]) == ("s1", "main", "1.0", 4, 2)
    assert (one["state"], one["wish"], one["trouble"]) == ("serving", "renew", "")
    assert (two["server"], two["state"], two["wish"], two["nodes"], two["trouble"]) == (
        "s2",
        "draining",
        None,
        1,
        "node cannot start",
    )
    assert one["wished_at"].endswith("Z") and two["wished_at"] is None


async def test_the_drain_of_a_server_is_written_down_and_taken_back(api, root, say, entries, session):
    await say("s1")
    await say("s2")
    entries += [node(A, "s1", "gateway", "registry"), node(B, "s2", "gateway", "registry")]
    answer = await api("POST", "/v1/servers/s2/drain", token=root)
    assert (answer.status, answer.body["server"], answer.body["what"], answer.body["node"]) == (200, "s2", "drain", None)
    standing = (await wishes.read(session))[wishes.of_server("s2")]
    assert standing.wish.what == "drain" and standing.wish.by == answer.body["by"]
    again = await api("POST", "/v1/servers/s2/drain", token=root)
    assert again.body == answer.body, "asked twice, as after a lost answer"
    refused = await api("POST", "/v1/servers/s2/renew", token=root)
    assert (refused.status, refused.body["code"]) == (409, "state_refused")
    assert (await api("DELETE", "/v1/servers/s2/drain", token=root)).body == {"server": "s2", "stood": True}
    assert await wishes.read(session) == {}
    assert (await api("DELETE", "/v1/servers/s2/drain", token=root)).body == {"server": "s2", "stood": False}


async def test_what_stands_for_a_server_that_is_gone_is_taken_back(api, root, session):
    await wishes.wish(session, wishes.of_server("s9"), "drain", "k")
    assert (await api("DELETE", "/v1/servers/s9/drain", token=root)).body == {"server": "s9", "stood": True}
    assert (await api("DELETE", "/v1/servers/s9/drain", token=root)).status == 404


async def test_the_last_server_that_has_something_is_drained_by_force_alone(api, root, say, entries):
    await say("s1")
    await say("s2")
    entries += [node(A, "s1", "gateway", "worker", kinds=("shop.pay",), service="cache")]
    entries += [node(B, "s2", "gateway"), node(C, "s2", "worker", kinds=("shop.pay", "shop.ship"), service="billing")]
    answer = await api("POST", "/v1/servers/s2/drain", token=root)
    assert (answer.status, answer.body["code"]) == (409, "state_refused")
    assert "s2 is the last one with kind shop.ship, service billing" in answer.body["detail"]
    assert (await api("GET", "/v1/servers")).body["servers"][1]["wish"] is None
    assert (await api("POST", "/v1/servers/s2/drain?force=true", token=root)).status == 200


@pytest.mark.parametrize("how", ["wish", "state"])
async def test_a_server_that_is_drained_counts_for_nothing(api, root, say, entries, session, how):
    await say("s1")
    await say("s2", state="draining" if how == "state" else "serving")
    entries += [node(A, "s1", "gateway", "registry"), node(B, "s2", "gateway", "registry")]
    if how == "wish":
        await wishes.wish(session, wishes.of_server("s2"), "drain", "k")
    answer = await api("POST", "/v1/servers/s1/drain?force=true", token=root)
    assert answer.status == 409 and "the last one with role gateway, role registry: without a gateway" in answer.body["detail"]


async def test_of_two_servers_that_are_drained_at_the_same_moment_one_stays(api, root, say, entries, session, monkeypatch):
    await say("s1")
    await say("s2")
    entries += [node(A, "s1", "gateway"), node(B, "s2", "gateway")]
    wish = wishes.wish

    async def both(*args: Any) -> model.Wish:
        await wish(session, wishes.of_server("s1"), "drain", "k")
        return await wish(*args)

    monkeypatch.setattr(wishes, "wish", both)
    answer = await api("POST", "/v1/servers/s2/drain?force=true", token=root)
    assert answer.status == 409 and "the last one with role gateway" in answer.body["detail"]
    assert list(await wishes.read(session)) == [wishes.of_server("s1")]


async def test_the_server_of_one_machine_has_a_name_to_be_asked_for(api, root, say, entries, session):
    await say("")
    entries += [node(A, "", "gateway")]
    assert (await api("POST", "/v1/servers/local/renew", token=root)).body["server"] == ""
    assert list(await wishes.read(session)) == [wishes.of_server("")]
    answer = await api("POST", "/v1/servers/local/drain?force=true", token=root)
    assert (answer.status, answer.body["detail"].split(":")[0]) == (409, "server local is the last one with role gateway")


async def test_a_node_is_drained_by_its_id_or_the_end_of_it(api, root, entries, session):
    entries += [node(A, "s1", "gateway"), node(B, "s1", "worker")]
    for given in (B, B[-6:]):
        answer = await api("POST", f"/v1/nodes/{given}/drain", token=root)
        assert (answer.status, answer.body["node"], answer.body["server"]) == (200, B, None)
    assert list(await wishes.read(session)) == [wishes.of_node(B)]


@pytest.mark.parametrize(
    "method, path, status, code, said",
    [
        ("POST", "/v1/nodes/0000b2/drain", 404, "not_found", f"did you mean {B}?"),
        ("POST", "/v1/nodes/zzzzzz/drain", 404, "not_found", "'callboard nodes' lists those that live"),
        ("POST", "/v1/nodes/1/drain", 404, "not_found", "no node '1' is alive"),
        ("POST", "/v1/nodes/0001/drain", 422, "invalid_input", "the end of 2 nodes' ids: give more of it"),
        ("POST", "/v1/servers/s-2/drain", 404, "not_found", "did you mean s2?"),
        ("POST", "/v1/servers/nowhere/renew", 404, "not_found", "those that are: s1, s2"),
        ("DELETE", "/v1/servers/nowhere/drain", 404, "not_found", "those that are: s1, s2"),
        ("POST", "/v1/servers/s2/drain?by=force", 422, "invalid_input", "query parameter 'by' is unknown here"),
        ("POST", "/v1/servers/s2/undrain", 404, "not_found", "there is nothing at"),
    ],
)
async def test_bad_input_is_told(api, root, say, entries, session, method, path, status, code, said):
    await say("s1")
    await say("s2")
    entries += [node(A, "s1", "gateway"), node(B, "s2", "gateway"), node(f"0193{1:028x}", "s1"), node(f"0194{1:028x}", "s1")]
    answer = await api(method, path, token=root)
    assert (answer.status, answer.body["code"]) == (status, code)
    assert said in answer.body["detail"]
    assert await wishes.read(session) == {}


@pytest.mark.parametrize(
    "path", ["/v1/nodes/abcd/drain", "/v1/servers/s1/drain", "/v1/servers/s1/renew", "/v1/names/billing/move"]
)
async def test_only_those_who_run_the_system_change_it(api, path):
    for scopes, domain in ((("jobs:read", "jobs:manage", "calls:invoke"), "."), (("admin",), "acme")):
        answer = await api("POST", path, token=await api.key(*scopes, domain=domain))
        assert (answer.status, answer.body["code"]) == (403, "forbidden")
    assert (await api("POST", path, token="")).status == 401


async def test_a_gateway_alone_says_that_it_knows_no_names(api, root):
    for method, path in (("GET", "/v1/names"), ("GET", "/v1/names/billing/ping"), ("POST", "/v1/names/billing/move")):
        answer = await api(method, path, token=root)
        assert (answer.status, answer.body["code"]) == (503, "not_active")


async def test_what_cannot_be_a_move_is_refused(api, root):
    for path, body, code in (
        ("/v1/names/Bill!/move", {}, "invalid_name"),
        ("/v1/names/billing/move", {"too": "x"}, "invalid_input"),
        ("/v1/names/billing/move?timeout=61", {}, "invalid_input"),
    ):
        answer = await api("POST", path, body, token=root)
        assert (answer.status, answer.body["code"]) == (422, code), path
