"""Queues, nodes, keys, health, metrics, documentation; and what is no route at all."""

from __future__ import annotations

import asyncio
import re

import msgspec
import pytest

from callboard import errors
from callboard.coordination import engine as coordination
from callboard.jobs import model
from callboard.kit import lifecycle
from callboard.roles.gateway import Gateway, health, views


async def test_queues_show_jobs_by_state(api):
    await api.submit()
    await api.submit(delay=60)
    await api.submit("a", queue="slow")
    await api.claim()
    await api("POST", "/v1/queues/idle/pause")
    assert (await api("GET", "/v1/queues")).body["queues"] == [
        {"domain": "main", "queue": "idle", "paused": True, "counts": {}},
        {"domain": "main", "queue": "images", "paused": False, "counts": {"running": 1, "scheduled": 1}},
        {"domain": "main", "queue": "slow", "paused": False, "counts": {"available": 1}},
    ]


async def test_a_paused_queue_gives_no_jobs_until_it_is_resumed(api):
    await api.submit()
    assert (await api("POST", "/v1/queues/images/pause")).body == {"queue": "images", "paused": True}
    assert await api.claim() == []
    assert (await api("POST", "/v1/queues/images/resume")).body == {"queue": "images", "paused": False}
    assert len(await api.claim()) == 1


async def test_a_queue_has_a_name_of_the_grammar(api):
    answer = await api("POST", "/v1/queues/No%20Queue/pause")
    assert (answer.status, answer.body["code"]) == (422, "invalid_name")


def test_great_counts_are_not_pretended_to_be_exact():
    counts = [model.Count("main", "q", kind, model.Lane.LONG, model.State.AVAILABLE, 6000) for kind in "ab"]
    assert views.queues(counts[:1], [])[0].counts == {"available": 6000}
    assert views.queues(counts, [])[0].counts == {"available": "10,000+"}


async def test_nodes_are_what_live_ones_say(api, entries):
    facts = {"incarnation": "ab", "pid": 7, "roles": [{"role": "gateway", "url": "http://x"}]}
    entries += [
        coordination.Entry("nodes/ab", msgspec.json.encode(facts), 1, "node-ab"),
        coordination.Entry("nodes/cd", b"broken", 1, "node-cd"),
        coordination.Entry("agent", b"{}", 1, "agent"),
    ]
    listed = {"nodes": [facts], "partial": False}
    assert (await api("GET", "/v1/nodes")).body == listed
    entries.clear()
    assert (await api("GET", "/v1/nodes")).body == listed, "read once a second at most"


async def test_keys_are_made_listed_and_revoked(api):
    made = await api("POST", "/v1/keys", {"name": "robot", "scopes": ["jobs:read"]})
    assert made.status == 201
    assert (made.body["name"], made.body["scopes"], made.body["domain"], made.body["revoked_at"]) == (
        "robot",
        ["jobs:read"],
        "main",
        None,
    )
    token = made.body.pop("key")
    assert (await api("GET", "/v1/jobs", token=token)).status == 200
    listed = (await api("GET", "/v1/keys")).body["keys"]
    assert [key["name"] for key in listed] == ["first admin", "robot"]
    assert listed[1] == made.body
    revoked = await api("DELETE", f"/v1/keys/{made.body['id']}")
    assert (revoked.status, revoked.body["revoked_at"] is not None) == (200, True)
    refused = await api("GET", "/v1/jobs", token=token)
    assert (refused.status, refused.body["code"]) == (401, "unauthorized")


async def test_keys_reach_no_further_than_their_maker(api):
    made = await api("POST", "/v1/keys", {"name": "team", "scopes": ["admin"], "domain": "team.main"})
    token = made.body["key"]
    assert (await api("POST", "/v1/keys", {"name": "x", "scopes": ["admin"], "domain": "main"}, token=token)).status == 403
    assert (await api("POST", "/v1/keys", {"name": "x", "scopes": ["jobs:read"]}, token=token)).body["domain"] == "team.main"
    assert {key["domain"] for key in (await api("GET", "/v1/keys", token=token)).body["keys"]} == {"team.main"}
    (first, *_) = (await api("GET", "/v1/keys")).body["keys"]
    assert (await api("DELETE", f"/v1/keys/{first['id']}", token=token)).status == 404


@pytest.mark.parametrize(
    "body, word",
    [
        ({"name": "x", "scopes": ["jobs:fly"]}, "jobs:fly"),
        ({"name": "x", "scopes": []}, "scope"),
        ({"name": "", "scopes": ["admin"]}, "name"),
        ({"name": "x"}, "scopes"),
        ({"name": "x", "scopes": ["admin"], "hash": "y"}, "hash"),
        ({"name": 1, "scopes": ["admin"]}, "name"),
    ],
)
async def test_a_key_asked_for_badly_is_refused(api, body, word):
    answer = await api("POST", "/v1/keys", body)
    assert (answer.status, answer.body["code"]) == (422, "invalid_input")
    assert word in answer.body["detail"]
    assert len((await api("GET", "/v1/keys")).body["keys"]) == 1


async def test_health_and_readiness_need_no_key(api):
    assert (await api("GET", "/healthz", token="")).body == {"loop": "ok", "writer": "ok"}
    answer = await api("GET", "/readyz", token="")
    assert (answer.status, answer.body) == (200, {"jobs": "ok", "calls": "unavailable"})


async def test_a_store_that_is_away_makes_it_unready_but_not_unwell(api, monkeypatch):
    async def fail(*_):
        raise errors.StoreUnavailable("the store is away: wait")

    monkeypatch.setattr(api.queue, "document", fail)
    answer = await api("GET", "/readyz", token="")
    assert (answer.status, answer.body["jobs"]) == (503, "unavailable")
    assert (await api("GET", "/healthz", token="")).status == 200
    assert (await api("GET", "/metrics", token="")).status == 200


class Stuck:
    """A queue whose writer does as told."""

    def __init__(self) -> None:
        self.now = 0
        self.counters = {"commits": 5.0, "waiting": 0.0}
        self.clock = self

    def boot(self) -> int:
        return self.now

    def stats(self) -> dict[str, float]:
        return self.counters


def test_only_a_writer_that_stands_still_with_work_is_unwell():
    queue = Stuck()
    judge = health.Health(queue, lambda: True)  # type: ignore[arg-type]
    assert judge.alive()
    queue.now += 10 * health.STALL_NS
    queue.counters["waiting"] = 3.0
    assert judge.alive(), "seen for the first time"
    queue.now += health.STALL_NS - 1
    assert judge.alive()
    queue.counters["commits"] += 1
    assert judge.alive(), "it moved"
    assert judge.alive()
    queue.now += health.STALL_NS
    assert not judge.alive()
    queue.counters["waiting"] = 0.0
    assert judge.alive()


async def test_metrics_count_requests_and_jobs(api):
    await api.submit()
    await api("GET", "/v1/nope")
    await api("GET", f"/v1/jobs/{await api.submit()}")
    scraped = await api("GET", "/metrics", token="")
    assert scraped.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    text = scraped.body.decode()
    assert 'callboard_http_requests_total{method="POST",route="/v1/jobs",status="201"} 2.0' in text
    assert 'callboard_http_requests_total{method="GET",route="/v1/jobs/{job_id}",status="200"} 1.0' in text
    assert 'callboard_http_requests_total{method="GET",route="unknown",status="404"} 1.0' in text
    assert 'callboard_jobs{domain="main",queue="images",state="available"} 2.0' in text
    assert re.search(r"callboard_store_commits_total \d", text)
    assert 'callboard_http_request_seconds_count{method="POST",route="/v1/jobs"} 2.0' in text


@pytest.mark.parametrize(
    "method, path, status, code",
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1/", 404, "not_found"),
        ("GET", "/v1/jobs/a/b/c", 404, "not_found"),
        ("GET", "/docs/nothing.json", 404, "not_found"),
        ("PUT", "/v1/jobs", 405, "method_not_allowed"),
        ("DELETE", "/v1/jobs/x", 405, "method_not_allowed"),
        ("POST", "/healthz", 405, "method_not_allowed"),
    ],
)
async def test_what_is_no_route_is_a_problem(api, method, path, status, code):
    answer = await api(method, path)
    assert (answer.status, answer.body["code"]) == (status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"
    if status == 405:
        assert "GET" in answer.headers["Allow"]


async def test_the_documentation_describes_every_route(api):
    schema = (await api("GET", "/docs/openapi.json", token="")).body
    again = (await api("GET", "/docs/openapi.json", token="")).body
    assert schema == again
    described = {(method, path) for path, methods in schema["paths"].items() for method in methods}
    assert described == {
        ("post", "/v1/jobs"),
        ("get", "/v1/jobs"),
        ("post", "/v1/jobs/batch"),
        ("post", "/v1/jobs/wait"),
        ("get", "/v1/jobs/{job_id}"),
        ("post", "/v1/jobs/{job_id}/cancel"),
        ("post", "/v1/jobs/{job_id}/retry"),
        ("get", "/v1/queues"),
        ("post", "/v1/queues/{queue_name}/pause"),
        ("post", "/v1/queues/{queue_name}/resume"),
        ("post", "/v1/call/{name}/{method}"),
        ("post", "/v1/call/{name}/{incarnation}/{method}"),
        ("post", "/v1/broadcast"),
        ("get", "/v1/nodes"),
        ("post", "/v1/nodes/{incarnation}/drain"),
        ("get", "/v1/servers"),
        ("post", "/v1/servers/{server}/drain"),
        ("delete", "/v1/servers/{server}/drain"),
        ("post", "/v1/servers/{server}/renew"),
        ("get", "/v1/names"),
        ("get", "/v1/names/{name}/ping"),
        ("get", "/v1/names/{name}/{incarnation}/ping"),
        ("post", "/v1/names/{name}/move"),
        ("get", "/v1/view"),
        ("get", "/v1/keys"),
        ("post", "/v1/keys"),
        ("delete", "/v1/keys/{key_id}"),
        ("get", "/healthz"),
        ("get", "/readyz"),
        ("get", "/metrics"),
    }
    submit = schema["paths"]["/v1/jobs"]["post"]
    assert submit["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Submission"}
    assert "jobs:submit" in submit["description"]
    assert set(submit["responses"]) == {"201", "default"}
    for reference in set(re.findall(r"#/components/schemas/(\w+)", msgspec.json.encode(schema).decode())):
        assert reference in schema["components"]["schemas"]


async def test_the_page_needs_nothing_from_elsewhere(api):
    answer = await api("GET", "/docs", token="")
    page = answer.body.decode()
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "POST /v1/jobs/batch" in page
    assert "<script" not in page and "http://" not in page and "https://" not in page


async def test_the_role_tells_where_it_is(api):
    assert api.gateway.facts() == {"url": api.gateway.url}
    assert await api.gateway.ping() == {"role": "gateway", "ready": True, "active": True, "open_requests": 0}


async def test_a_second_gateway_on_the_port_says_so(api, queue):
    async def none():
        return []

    second = Gateway(queue, {}, "127.0.0.1", int(api.gateway.url.rpartition(":")[2]), none)
    with pytest.raises(errors.PortInUse):
        await second.start()


async def test_two_gateways_serve_one_store(api, queue):
    async def none():
        return []

    second = Gateway(queue, {}, "127.0.0.1", 0, none, max_body_bytes=2000)
    await second.start()
    id = await api.submit()
    first, api.gateway = api.gateway, second
    assert (await api("GET", f"/v1/jobs/{id}")).status == 200
    answer = await api("POST", "/v1/jobs/batch", b" " * 2001)
    assert (answer.status, answer.body["limit"]) == (413, 2000)
    await second.drain(1)
    await second.stop()
    api.gateway = first
    assert (await api("GET", f"/v1/jobs/{id}")).status == 200


async def test_a_drain_lets_requests_end(api, monkeypatch):
    started, go_on = asyncio.Event(), asyncio.Event()
    find = api.queue.find

    async def slow(*given):
        started.set()
        await go_on.wait()
        return await find(*given)

    monkeypatch.setattr(api.queue, "find", slow)
    listing = asyncio.create_task(api("GET", "/v1/jobs"))
    await started.wait()
    draining = asyncio.create_task(api.gateway.drain(5))
    while api.gateway.phase is not lifecycle.Phase.DRAINING:
        await asyncio.sleep(0)
    go_on.set()
    assert (await listing).status == 200
    await draining


async def test_what_outlives_the_drain_is_told(api, monkeypatch):
    started = asyncio.Semaphore(0)

    async def stuck(*_):
        started.release()
        await asyncio.Event().wait()

    monkeypatch.setattr(api.queue, "submit", stuck)
    monkeypatch.setattr(api.queue, "find", stuck)
    asking = [asyncio.create_task(api("POST", "/v1/jobs", {"kind": "a"})), asyncio.create_task(api("GET", "/v1/jobs"))]
    for _ in asking:
        await started.acquire()
    await api.gateway.drain(0.01)
    for answer in await asyncio.gather(*asking):
        assert (answer.status, answer.body["code"], answer.body["unknown"]) == (503, "store_unavailable", True)
