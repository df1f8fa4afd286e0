"""The client for asyncio against real gateways."""

from __future__ import annotations

import asyncio
import math
import time
from datetime import UTC, datetime, timedelta

import pytest

from callboard import errors
from callboard.client import Client, batches, calls, watches
from callboard.http import server
from callboard.jobs import engine as seam
from callboard.kit import uuid7

ABSENT = "0197a3c4-0000-7000-8000-000000000000"


def add(args):
    return args["a"] + args["b"]


async def stored(site) -> int:
    return len((await site.queue.find(seam.Filter(domain="main"), 1000)).jobs)


async def test_from_submission_to_result(site, client):
    receipt = await client.submit("app.add", {"a": 1, "b": 2}, priority=1, tags=["x"])
    assert (receipt.domain, receipt.state, receipt.created) == ("main", "available", True)
    job = await client.get(receipt.id)
    assert (job.args, job.priority, job.tags, job.finished) == ({"a": 1, "b": 2}, 1, ("x",), False)
    assert job.submitted_at.tzinfo is not None
    waiting = asyncio.create_task(client.wait(receipt.id, 10))
    await site.work(add)
    job = await waiting
    assert (job.state, job.result, job.finished) == ("completed", 3, True)
    assert await client.result(receipt.id) == 3
    assert client.retries == 0


async def test_options_travel(site, client):
    at = datetime.now(UTC) + timedelta(hours=1)
    receipt = await client.submit(
        "app.other", run_at=at, queue="q", lane="short", attempts=9, backoff=2, timeout=5, meta={"a": "b"}
    )
    job = await client.get(receipt.id)
    assert (job.state, job.run_at, job.queue, job.lane) == ("scheduled", at, "q", "short")
    assert (job.max_attempts, job.backoff, job.timeout, job.meta) == (9, 2, 5, {"a": "b"})
    assert job.waiting_for == "no live worker knows kind 'app.other'"


@pytest.mark.parametrize(
    "args, options",
    [
        ({"x": math.nan}, {}),
        ({"x": object()}, {}),
        ({1: 2}, {}),
        ({}, {"delay": math.nan}),
        ({}, {"priority": "high"}),
        ({}, {"colour": "red"}),
        ({}, {"id": "x"}),
        ({}, {"priority": 11}),
        ({}, {"tags": "red"}),
    ],
)
async def test_bad_input_is_refused(site, client, args, options):
    with pytest.raises(errors.InvalidInput):
        await client.submit("app.add", args, **options)
    assert await stored(site) == 0


async def test_values_of_python_become_json(site, client):
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    receipt = await client.submit("app.add", {"at": at, "data": b"\x00\xff", "pair": (1, 2)})
    assert (await client.get(receipt.id)).args == {"at": "2026-01-02T03:04:05Z", "data": "AP8=", "pair": [1, 2]}


async def test_the_same_id_makes_one_job(site, client):
    id = uuid7.text(uuid7.make(time.time_ns() // 1000))
    assert (await client.submit("app.add", {"a": 1}, id=id)).created
    assert not (await client.submit("app.add", {"a": 1}, id=id)).created
    with pytest.raises(errors.IdConflict):
        await client.submit("app.add", {"a": 2}, id=id)


async def test_many_are_submitted_in_order(site, client, monkeypatch):
    monkeypatch.setattr(batches, "BATCH_JOBS", 30)
    jobs = [client.job("app.add", {"a": n, "b": n}) for n in range(100)]
    receipts = await client.submit_many(jobs)
    assert [receipt.id for receipt in receipts] == [job.id for job in jobs]
    assert all(receipt.created for receipt in receipts)
    assert not any(receipt.created for receipt in await client.submit_many(jobs))
    assert await client.submit_many([]) == []


async def test_many_are_cut_by_size(monkeypatch, client):
    monkeypatch.setattr(batches, "BATCH_BYTES", 1000)
    jobs = [client.job("app.add", {"x": "y" * 300}) for _ in range(5)]
    assert [len(batch) for batch in batches.cut(jobs)] == [2, 2, 1]


async def test_a_bad_one_among_many_is_named_by_index(site, client, monkeypatch):
    monkeypatch.setattr(batches, "BATCH_JOBS", 3)
    jobs = [client.job("app.add", {"a": n}) for n in range(5)] + [client.job("app.add", priority=99)]
    with pytest.raises(errors.InvalidInput) as caught:
        await client.submit_many(jobs)
    assert caught.value.data["index"] == 5
    assert await stored(site) == 3, "the first request's jobs are stored, of the second one's none"


async def test_a_taken_id_among_many_is_named_after_the_others_are_stored(site, client):
    taken = client.job("app.add", {"a": 1})
    await client.submit("app.add", {"a": 2}, id=taken.id)
    with pytest.raises(errors.IdConflict) as caught:
        await client.submit_many([client.job("app.add"), taken, client.job("app.add")])
    assert (caught.value.data["index"], caught.value.data["id"]) == (1, taken.id)
    assert await stored(site) == 3


async def test_an_unknown_job_is_not_found(client):
    for call in (client.get(ABSENT), client.wait(ABSENT), client.cancel(ABSENT), client.retry(ABSENT)):
        with pytest.raises(errors.JobNotFound):
            await call
    with pytest.raises(errors.JobNotFound):
        async for _ in client.results([ABSENT]):
            pass
    with pytest.raises(errors.InvalidId):
        await client.get("../keys")


async def test_a_wait_ends_in_time(site, client):
    receipt = await client.submit("app.add")
    with pytest.raises(errors.WaitTimeout, match="available"):
        await client.wait(receipt.id, 0.05)
    with pytest.raises(errors.WaitTimeout):
        await client.wait(receipt.id, 0)
    with pytest.raises(errors.WaitTimeout, match="1 jobs"):
        async for _ in client.results([receipt.id], 0.05):
            pass


async def test_a_wait_takes_several_turns(site, client, monkeypatch):
    monkeypatch.setattr(calls, "WAIT_SECONDS", 0.02)
    receipt = await client.submit("app.add", {"a": 1, "b": 1})
    waiting = asyncio.create_task(client.result(receipt.id))
    async with asyncio.timeout(5):
        while 'route="/v1/jobs/{job_id}",status="200"} 3' not in (await site.gateways[0]._desk.metrics.text()).decode():
            await asyncio.sleep(0.01)
        await site.work(add)
        assert await waiting == 2


async def test_a_failed_job_says_why(site, client):
    receipt = await client.submit("app.add", {})
    await site.work(add)
    with pytest.raises(errors.JobFailed, match="discarded: KeyError: 'a'") as caught:
        await client.result(receipt.id)
    assert caught.value.data["state"] == "discarded"


async def test_results_come_as_they_are_ready(site, client, monkeypatch):
    monkeypatch.setattr(watches, "WATCHED_IDS", 20)
    monkeypatch.setattr(watches, "WATCHES", 3)
    monkeypatch.setattr(watches, "TURN_SECONDS", 0.02)
    receipts = await client.submit_many(client.job("app.add", {"a": n, "b": 0}) for n in range(150))
    ids = [receipt.id for receipt in receipts]
    working = asyncio.create_task(site.keep_working(add, 10))
    seen = {}
    async with asyncio.timeout(20):
        async for job in client.results([*ids, ids[0]]):
            assert job.id not in seen
            seen[job.id] = job.result
    working.cancel()
    assert seen == {id: n for n, id in enumerate(ids)}
    assert [job async for job in client.results([])] == []


async def test_results_can_be_left_early(site, client):
    receipts = await client.submit_many(client.job("app.add", {"a": n, "b": 0}) for n in range(3))
    await site.work(add, 1)
    results = client.results([receipt.id for receipt in receipts])
    assert (await anext(results)).result == 0
    await results.aclose()


async def test_jobs_are_listed_over_pages(site, client, monkeypatch):
    monkeypatch.setattr(calls, "PAGE_JOBS", 7)
    receipts = await client.submit_many(
        client.job("app.add", {"a": n, "b": 0}, tags=["even"] if n % 2 == 0 else []) for n in range(30)
    )
    ids = [receipt.id for receipt in receipts][::-1]
    assert [job.id async for job in client.jobs()] == ids
    assert [job.id async for job in client.jobs(limit=10)] == ids[:10]
    assert [job.id async for job in client.jobs(tag="even", state="available")] == ids[1::2]
    assert [job async for job in client.jobs(kind="x", queue="y", state=["completed", "running"])] == []


async def test_cancelling_and_retrying(site, client):
    receipt = await client.submit("app.add", {"a": 1, "b": 1})
    with pytest.raises(errors.StateRefused, match="not finished"):
        await client.retry(receipt.id)
    assert await client.cancel(receipt.id) == "cancelled"
    assert await client.retry(receipt.id) == "available"
    await site.work(add)
    with pytest.raises(errors.StateRefused):
        await client.cancel(receipt.id)
    assert (await client.get(receipt.id)).run == 2


async def test_queues_nodes_and_keys(site, client):
    await client.submit("app.add", {"a": 1, "b": 1})
    await client.pause("default")
    assert await site.work(add) == 0
    (queue,) = await client.queues()
    assert (queue.queue, queue.paused, queue.counts) == ("default", True, {"available": 1})
    await client.resume("default")
    assert await site.work(add) == 1
    assert await client.nodes() == [{"incarnation": "aa"}]
    made = await client.create_key("robot", ["jobs:read"])
    assert [key.name for key in await client.keys()] == ["first admin", "robot"]
    async with Client(site.urls, made.key) as robot:
        assert [job.state async for job in robot.jobs()] == ["completed"]
        with pytest.raises(errors.Forbidden):
            await robot.submit("app.add")
        assert (await client.revoke_key(made.id)).revoked_at is not None
        with pytest.raises(errors.Unauthorized):
            await robot.queues()
    with pytest.raises(errors.NotFound):
        await client.revoke_key("nope")
    with pytest.raises(errors.InvalidInput, match="jobs:fly"):
        await client.create_key("robot", ["jobs:fly"])


async def test_a_client_may_live_in_a_domain(site):
    inner = await site.client(domain="team.main")
    outer = await site.client()
    receipt = await inner.submit("app.add", {"a": 1})
    (other,) = await inner.submit_many([inner.job("app.add")])
    assert (receipt.domain, other.domain) == ("team.main", "team.main")
    assert (await inner.get(receipt.id)).domain == "team.main"
    with pytest.raises(errors.JobNotFound):
        await outer.get(receipt.id)
    assert (await outer.get(receipt.id, domain="team.main")).id == receipt.id
    assert {job.id async for job in inner.jobs()} == {receipt.id, other.id}
    assert (await inner.create_key("x", ["jobs:read"])).domain == "team.main"


@pytest.mark.parametrize(
    "options", [{"timeout": 0}, {"timeout": 601}, {"key": "cb_é"}, {"key": "cb_\n"}, {"urls": []}, {"urls": "x"}]
)
def test_a_client_that_cannot_work_is_not_made(options):
    with pytest.raises(errors.InvalidSetting):
        Client(**{"urls": "http://127.0.0.1:1", **options})


async def test_no_key_is_unauthorized(site):
    async with Client(site.urls) as client:
        with pytest.raises(errors.Unauthorized):
            await client.queues()


async def test_a_dying_gateway_is_not_noticed(site, client):
    """Submissions and waits go on through the other gateway when one goes; no job is doubled, none lost."""
    await site.open()
    client = await site.client()
    done: list[str] = []
    working = asyncio.create_task(site.keep_working(add))

    async def one(n: int) -> None:
        receipt = await client.submit("app.add", {"a": n, "b": 0})
        assert await client.result(receipt.id, 20) == n
        done.append(receipt.id)

    async def crowd(first: int) -> None:
        for n in range(first, first + 15):
            await one(n)

    crowds = [asyncio.create_task(crowd(100 * each)) for each in range(8)]
    async with asyncio.timeout(30):
        while len(done) < 30:
            await asyncio.sleep(0.001)
        await site.gateways[0].stop()
        await site.open(int(site.gateways[0].url.rpartition(":")[2]))
        await site.gateways[1].stop()
        await asyncio.gather(*crowds)
    working.cancel()
    assert len(set(done)) == len(done) == 120
    assert await stored(site) == 120
    assert client.retries > 0


async def test_no_gateway_is_said_in_time(site):
    with server.bind("127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with Client(url, site.token, timeout=0.2) as client:
        with pytest.raises(errors.Unreachable, match=url):
            await client.submit("app.add")


async def test_a_key_is_not_made_twice_by_a_lost_answer(site, monkeypatch):
    """What is not safe to repeat is sent once: the gateway's answer is lost here, after the key was stored."""
    await site.gateways[0].stop()

    async def losing(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})

    lossy = server.Server(losing, "127.0.0.1", 0)
    await lossy.start()
    async with Client(lossy.url, site.token, timeout=5) as client:
        with pytest.raises(errors.Unreachable):
            await client.create_key("x", ["jobs:read"])
        assert client.retries == 0
    await lossy.stop()
