"""A client of a store that takes only so many jobs: it comes again until there is room, or says so in time."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from callboard import errors
from callboard.http import client as http
from callboard.jobs import engine as seam
from callboard.jobs.engines import memory
from tests.unit import limited


@pytest.fixture
def engine() -> seam.Engine:
    return limited.Limited(memory.open("memory:"), 4)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(http, "MOST_PAUSE_SECONDS", 0.05)


@contextlib.asynccontextmanager
async def somebody_works(site):
    working = asyncio.create_task(site.keep_working(lambda args: None, 1))
    yield
    working.cancel()


async def test_one_job_waits_for_room(site, client):
    for n in range(4):
        await client.submit("app.add", {"a": n})
    submitting = asyncio.create_task(client.submit("app.add", {"a": 4}))
    async with asyncio.timeout(10):
        while not client.retries:
            await asyncio.sleep(0.005)
    assert not submitting.done()
    async with somebody_works(site):
        assert (await asyncio.wait_for(submitting, 10)).created


async def test_of_many_those_are_sent_again_that_were_not_taken(site, client):
    jobs = [client.job("app.add", {"a": n}) for n in range(30)]
    async with somebody_works(site):
        receipts = await asyncio.wait_for(client.submit_many(jobs), 30)
    assert [receipt.id for receipt in receipts] == [job.id for job in jobs]
    assert all(receipt.created for receipt in receipts), "none was sent twice"


async def test_a_store_that_stays_full_is_told(site):
    client = await site.client(timeout=0.3)
    with pytest.raises(errors.StoreFull, match="limit of 4 jobs") as caught:
        await client.submit_many([client.job("app.add", {"a": n}) for n in range(6)])
    assert (caught.value.retryable, caught.value.data["limit"]) == (True, 4)
    with pytest.raises(errors.StoreFull):
        await client.submit("app.add")


async def test_what_was_taken_beside_a_full_store_decides_before_a_conflict(site, client):
    taken = client.job("app.add", {"a": 1})
    await client.submit("app.add", {"a": 2}, id=taken.id)
    jobs = [client.job("app.add", {"b": n}) for n in range(6)]
    async with somebody_works(site):
        with pytest.raises(errors.IdConflict) as caught:
            await client.submit_many([jobs[0], taken, *jobs[1:]])
    assert caught.value.data["index"] == 1
    assert all(await site.queue.get_many([("main", each) for each in map(_raw, jobs)]))


def _raw(job) -> bytes:
    return bytes.fromhex(job.id.replace("-", ""))
