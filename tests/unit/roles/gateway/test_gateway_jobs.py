"""Looking at jobs over HTTP, waiting for them, listing and steering them."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from callboard import errors
from callboard.coordination import engine as coordination
from callboard.jobs import model
from callboard.kit import uuid7
from callboard.roles.gateway import Gateway, waits
from callboard.roles.gateway.routes import jobs as routes

ABSENT = "0197a3c4-0000-7000-8000-000000000000"


SERVED = {"domains": ["main"], "queues": ["default", "images"]}


def worker(**kinds: list[int]) -> coordination.Entry:
    body = {"incarnation": "aa", "pid": 1, "roles": [{"role": "worker", "kinds": kinds, "slots": 4, **SERVED}]}
    return coordination.Entry("nodes/aa", msgspec.json.encode(body), 1, "node-aa")


async def test_a_job_is_shown_whole(api):
    id = await api.submit(
        args={"b": 1},
        tags=["x", "y"],
        priority=1,
        timeout=2.5,
        backoff=0.5,
        attempts=7,
        meta={"trace": "t"},
        run_at="2030-01-01T02:00:00+02:00",
    )
    job = (await api("GET", f"/v1/jobs/{id}")).body
    assert job.pop("submitted_at").endswith("Z")
    assert job == {
        "id": id,
        "domain": "main",
        "kind": "app.resize",
        "version": 2,
        "queue": "images",
        "lane": "short",
        "state": "scheduled",
        "priority": 1,
        "tags": ["x", "y"],
        "args": {"b": 1},
        "run_at": "2030-01-01T00:00:00Z",
        "started_at": None,
        "finished_at": None,
        "run": 1,
        "fence": 0,
        "attempts": 0,
        "max_attempts": 7,
        "deaths": 0,
        "timeout": 2.5,
        "backoff": 0.5,
        "cancel_requested": False,
        "result": None,
        "reason": None,
        "progress": None,
        "node": None,
        "meta": {"trace": "t"},
        "errors": [],
        "waiting_for": "no live worker knows kind 'app.resize'",
    }


async def test_a_result_and_the_errors_of_attempts_are_shown(api):
    good, bad = await api.submit(args={"n": 1}), await api.submit(args={"n": 2})
    first, second = await api.claim()
    running = (await api("GET", f"/v1/jobs/{good}")).body
    assert (running["state"], running["node"], running["fence"]) == ("running", first.node.hex(), 1)
    await api.settle([first], {"bytes": b"\x00\xff", "list": [1]})
    await api.settle([second], failed="no such file")
    done = (await api("GET", f"/v1/jobs/{good}")).body
    assert (done["state"], done["result"], done["errors"]) == ("completed", {"bytes": "AP8=", "list": [1]}, [])
    lost = (await api("GET", f"/v1/jobs/{bad}")).body
    assert (lost["state"], lost["reason"]) == ("discarded", "discarded")
    (error,) = lost["errors"]
    assert (error["type"], error["message"], error["run"], error["attempt"]) == ("ValueError", "no such file", 1, 1)


async def test_progress_is_shown(api):
    id = await api.submit()
    (job,) = await api.claim()
    await api.queue.renew(job.node, [(job.domain, job.id, job.fence, model.Progress(3, 10, "third"))])
    assert (await api("GET", f"/v1/jobs/{id}")).body["progress"] == {"done": 3.0, "total": 10.0, "note": "third"}


async def test_what_a_job_waits_for_is_said(api, entries):
    entries.append(worker(**{"app.resize": [1, 2], "app.old": [1]}))
    known, unknown = await api.submit(), await api.submit("app.new")
    older = await api.submit("app.old", version=3)
    elsewhere = await api.submit(queue="nobodys")
    assert (await api("GET", f"/v1/jobs/{known}")).body["waiting_for"] is None
    assert (await api("GET", f"/v1/jobs/{unknown}")).body["waiting_for"] == "no live worker knows kind 'app.new'"
    said = (await api("GET", f"/v1/jobs/{elsewhere}")).body["waiting_for"]
    assert said == "no live worker that knows kind 'app.resize' serves queue 'nobodys' of domain 'main'"
    assert (await api("GET", f"/v1/jobs/{older}")).body["waiting_for"] == "no live worker knows version 3 of kind 'app.old'"


async def test_a_job_is_shown_though_nobody_knows_who_lives(api, queue):
    async def fail() -> list[coordination.Entry]:
        raise errors.DataUnusable("the data directory cannot be read: mend it")

    blind = Gateway(queue, {}, "127.0.0.1", 0, fail)
    await blind.start()
    id = await api.submit()
    api.gateway = blind
    assert (await api("GET", f"/v1/jobs/{id}")).body["waiting_for"] is None
    assert (await api("GET", "/v1/nodes")).body["code"] == "data_unusable"
    await blind.stop()


@pytest.mark.parametrize("path", [f"/v1/jobs/{ABSENT}", f"/v1/jobs/{ABSENT}?wait=30"])
async def test_an_unknown_job_is_not_found_at_once(api, path):
    answer = await api("GET", path)
    assert (answer.status, answer.body["code"]) == (404, "job_not_found")


@pytest.mark.parametrize("query", ["wait=60.1", "wait=-1", "wait=x", "wait=nan", "wait=inf", "wiat=1"])
async def test_a_wait_out_of_range_is_refused(api, query):
    id = await api.submit()
    answer = await api("GET", f"/v1/jobs/{id}?{query}")
    assert (answer.status, answer.body["code"]) == (422, "invalid_input")
    assert query.partition("=")[0] in answer.body["detail"]


async def test_what_is_no_id_is_refused(api):
    for method, path in [
        ("GET", "x"),
        ("POST", "x/cancel"),
        ("POST", "x/retry"),
        ("GET", "7f0e2b5e-3c1f-4a57-9a0e-9d2c8b1a6f3d"),
    ]:
        answer = await api(method, f"/v1/jobs/{path}")
        assert (answer.status, answer.body["code"]) == (422, "invalid_id")


async def test_a_wait_is_answered_the_moment_the_job_is_finished(api):
    id = await api.submit()
    waiting = asyncio.create_task(api("GET", f"/v1/jobs/{id}?wait=30"))
    (job,) = await api.claim()
    await api.settle([job], 7)
    async with asyncio.timeout(2):
        answer = await waiting
    assert (answer.body["state"], answer.body["result"]) == ("completed", 7)


async def test_a_wait_ends_with_the_job_as_it_is(api):
    id = await api.submit()
    began = time.monotonic()
    assert (await api("GET", f"/v1/jobs/{id}?wait=0.05")).body["state"] == "available"
    assert time.monotonic() - began >= 0.05


async def open_requests(api, number: int) -> None:
    async with asyncio.timeout(5):
        while (await api.gateway.ping())["open_requests"] != number:
            await asyncio.sleep(0)


async def test_draining_answers_waits_early(api):
    id = await api.submit()
    waiting = [
        asyncio.create_task(api("GET", f"/v1/jobs/{id}?wait=60")),
        asyncio.create_task(api("POST", "/v1/jobs/wait", {"ids": [id], "seconds": 60})),
    ]
    await open_requests(api, 2)
    async with asyncio.timeout(3):
        await api.gateway.drain(30)
        one, some = await asyncio.gather(*waiting)
    assert one.body["state"] == "available"
    assert some.body == {"jobs": [], "unknown": []}


async def test_waiting_for_some_answers_with_the_first(api):
    ids = [await api.submit(args={"n": n}) for n in range(3)]
    waiting = asyncio.create_task(api("POST", "/v1/jobs/wait", {"ids": ids, "seconds": 30}))
    await open_requests(api, 1)
    jobs = await api.claim()
    await api.settle(jobs[1:2], "second")
    async with asyncio.timeout(2):
        answer = await waiting
    assert [(job["id"], job["result"]) for job in answer.body["jobs"]] == [(ids[1], "second")]
    await api.settle(jobs[:1])
    answer = await api("POST", "/v1/jobs/wait", {"ids": ids})
    assert {job["id"] for job in answer.body["jobs"]} == set(ids[:2])


async def test_waiting_for_some_needs_no_hints(api, monkeypatch):
    """A lost hint costs a poll, no more."""
    monkeypatch.setattr(waits, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(api.queue.hints, "publish", lambda hint: None)
    id = await api.submit()
    waiting = asyncio.create_task(api("POST", "/v1/jobs/wait", {"ids": [id], "seconds": 30}))
    await api.settle(await api.claim())
    async with asyncio.timeout(3):
        assert [job["id"] for job in (await waiting).body["jobs"]] == [id]


async def test_waiting_for_some_ends_with_none(api):
    id = await api.submit()
    assert (await api("POST", "/v1/jobs/wait", {"ids": [id], "seconds": 0.05})).body == {"jobs": [], "unknown": []}
    assert (await api("POST", "/v1/jobs/wait", {"ids": [], "seconds": 0.01})).body == {"jobs": [], "unknown": []}


async def test_waiting_for_some_names_the_unknown_at_once(api):
    id = await api.submit()
    answer = await api("POST", "/v1/jobs/wait", {"ids": [id, ABSENT], "seconds": 60})
    assert answer.body == {"jobs": [], "unknown": [ABSENT]}


@pytest.mark.parametrize(
    "body", [{"ids": ["x"]}, {"ids": [ABSENT] * 1001}, {"ids": [], "seconds": 61}, {"ids": [], "seconds": -1}, {}]
)
async def test_waiting_for_some_badly_is_refused(api, body):
    answer = await api("POST", "/v1/jobs/wait", body)
    assert answer.status == 422


async def test_many_big_results_come_in_several_answers(api, monkeypatch):
    monkeypatch.setattr(waits, "MAX_BYTES", 1000)
    ids = {await api.submit(args={"n": n}) for n in range(120)}
    await api.settle(await api.claim(limit=200), "x" * 100)
    seen: set[str] = set()
    while seen < ids:
        answer = await api("POST", "/v1/jobs/wait", {"ids": sorted(ids - seen)})
        got = {job["id"] for job in answer.body["jobs"]}
        assert 0 < len(got) <= 50
        seen |= got


async def test_jobs_are_listed_newest_first_page_by_page(api):
    ids = [await api.submit(args={"n": n}) for n in range(7)]
    seen, cursor, pages = [], "", 0
    while cursor is not None:
        page = (await api("GET", f"/v1/jobs?limit=3{cursor and '&cursor=' + cursor}")).body
        assert len(page["jobs"]) <= 3
        seen += [job["id"] for job in page["jobs"]]
        cursor, pages = page["cursor"], pages + 1
    assert seen == ids[::-1]
    assert pages in (3, 4)


async def test_jobs_are_listed_by_filter(api):
    a = await api.submit(tags=["red"])
    b = await api.submit("app.other", queue="slow", tags=["red", "blue"])
    (job,) = await api.claim()
    await api.settle([job])

    async def listed(query: str) -> list[str]:
        return [job["id"] for job in (await api("GET", f"/v1/jobs?{query}")).body["jobs"]]

    assert await listed("state=completed") == [a]
    assert await listed("state=available") == [b]
    assert await listed("state=available,completed") == await listed("state=available&state=completed") == [b, a]
    assert await listed("kind=app.other") == await listed("queue=slow") == await listed("tag=blue") == [b]
    assert await listed("tag=red") == [b, a]
    assert await listed("tag=red&state=discarded") == []


async def test_other_domains_are_out_of_sight(api):
    await api.submit(domain="team.main")
    assert (await api("GET", "/v1/jobs")).body["jobs"] == []
    assert len((await api("GET", "/v1/jobs?domain=team.main")).body["jobs"]) == 1
    assert len((await api("GET", "/v1/jobs?subtree=true")).body["jobs"]) == 1
    assert (await api("GET", "/v1/jobs?domain=acme")).status == 403
    token = await api.key("jobs:read", domain="acme")
    id = await api.submit()
    assert (await api("GET", f"/v1/jobs/{id}", token=token)).status == 404


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "state=lost", "cursor=!", "cursor=YQ", "sate=running", "domain=A!", "subtree=perhaps"],
)
async def test_a_list_asked_for_badly_is_refused(api, query):
    answer = await api("GET", f"/v1/jobs?{query}")
    assert answer.status == 422
    assert answer.body["code"] in ("invalid_input", "invalid_name")
    assert "\n" not in answer.body["detail"]


async def test_a_page_is_bounded_by_size(api, monkeypatch):
    monkeypatch.setattr(routes, "MAX_PAGE_BYTES", 1000)
    for n in range(120):
        await api.submit(args={"n": n, "x": "y" * 100})
    page = (await api("GET", "/v1/jobs?limit=1000")).body
    assert len(page["jobs"]) == 50
    assert page["cursor"] is not None


async def test_a_waiting_job_is_cancelled_at_once(api):
    id = await api.submit()
    assert (await api("POST", f"/v1/jobs/{id}/cancel")).body == {"id": id, "state": "cancelled"}
    assert (await api("POST", f"/v1/jobs/{id}/cancel")).body == {"id": id, "state": "cancelled"}, "asked twice is the same"
    assert await api.claim() == []


async def test_a_running_job_carries_the_wish(api):
    id = await api.submit()
    (job,) = await api.claim()
    assert (await api("POST", f"/v1/jobs/{id}/cancel")).body == {"id": id, "state": "cancel_requested"}
    assert (await api("GET", f"/v1/jobs/{id}")).body["cancel_requested"] is True
    await api.settle([job])
    answer = await api("POST", f"/v1/jobs/{id}/cancel")
    assert (answer.status, answer.body["code"], answer.body["state"]) == (409, "state_refused", "completed")


async def test_a_finished_job_is_retried_once_for_one_request(api):
    id = await api.submit()
    answer = await api("POST", f"/v1/jobs/{id}/retry")
    assert (answer.status, answer.body["code"]) == (409, "state_refused")
    await api.settle(await api.claim(), failed="x")
    assert (await api("POST", f"/v1/jobs/{id}/retry?run=1")).body == {"id": id, "state": "available"}
    await api.settle(await api.claim(), failed="x")
    again = await api("POST", f"/v1/jobs/{id}/retry?run=1")
    assert again.body == {"id": id, "state": "discarded"}, "the same request again starts no third run"
    assert (await api("GET", f"/v1/jobs/{id}")).body["run"] == 2
    assert (await api("POST", f"/v1/jobs/{id}/retry?run=5")).body["code"] == "state_refused"
    assert (await api("POST", f"/v1/jobs/{id}/retry")).body == {"id": id, "state": "available"}
    assert (await api("GET", f"/v1/jobs/{id}")).body["run"] == 3


@pytest.mark.parametrize("path", ["cancel", "retry", "retry?run=1"])
async def test_steering_an_unknown_job_is_not_found(api, path):
    answer = await api("POST", f"/v1/jobs/{ABSENT}/{path}")
    assert (answer.status, answer.body["code"]) == (404, "job_not_found")


@pytest.mark.parametrize(
    "method, path, scope",
    [
        ("GET", f"/v1/jobs/{ABSENT}", "jobs:read"),
        ("GET", "/v1/jobs", "jobs:read"),
        ("POST", "/v1/jobs/wait", "jobs:read"),
        ("POST", "/v1/jobs/batch", "jobs:submit"),
        ("POST", f"/v1/jobs/{ABSENT}/cancel", "jobs:manage"),
        ("POST", f"/v1/jobs/{ABSENT}/retry", "jobs:manage"),
        ("GET", "/v1/queues", "jobs:read"),
        ("POST", "/v1/queues/x/pause", "jobs:manage"),
        ("POST", "/v1/queues/x/resume", "jobs:manage"),
        ("GET", "/v1/nodes", "jobs:read"),
        ("GET", "/v1/keys", "admin"),
        ("POST", "/v1/keys", "admin"),
        ("DELETE", "/v1/keys/x", "admin"),
    ],
)
async def test_each_route_asks_for_its_scope(api, method, path, scope):
    assert (await api(method, path, token="")).status == 401
    others = {"jobs:submit", "jobs:read", "jobs:manage"} - {scope}
    answer = await api(method, path, token=await api.key(*others))
    assert (answer.status, answer.body.get("scope")) == (403, scope)
    if scope != "admin":
        assert (await api(method, path, token=await api.key(scope))).status not in (401, 403)


async def test_state_changes_of_the_model_have_words():
    """Every state that a list can be filtered by is one that jobs are shown with."""
    assert set(model.WORDS) == {state.word for state in model.State}
    assert uuid7.text(uuid7.parse(ABSENT)) == ABSENT
