"""The client for programs without an event loop: the same calls, from any thread."""

from __future__ import annotations

import asyncio
import inspect
from concurrent import futures

import pytest

from callboard import errors
from callboard.client import Client, SyncClient


def add(args):
    return args["a"] + args["b"]


def use(urls: list[str], token: str) -> list[int]:
    """What a program without an event loop does."""
    with SyncClient(urls, token) as client:
        receipts = client.submit_many(client.job("app.add", {"a": n, "b": 0}) for n in range(20))
        ids = [receipt.id for receipt in receipts]
        assert client.get(ids[0]).args == {"a": 0, "b": 0}
        single = client.submit("app.add", {"a": 1, "b": 1})
        assert client.result(single.id, 10) == 2
        assert client.wait(single.id).state == "completed"
        with futures.ThreadPoolExecutor(4) as threads:
            assert sum(threads.map(lambda id: client.result(id, 10), ids)) == sum(range(20))
        found = sorted(job.result for job in client.results(ids, 10))
        for _ in client.results(ids):
            break
        assert len(list(client.jobs(limit=5))) == 5
        assert client.retry(single.id) == "available"
        assert client.result(single.id, 10) == 2
        client.pause("idle")
        assert client.cancel(client.submit("app.add", queue="idle").id) == "cancelled"
        client.resume("idle")
        assert {queue.queue for queue in client.queues()} == {"default", "idle"}
        key = client.create_key("x", ["jobs:read"])
        client.revoke_key(key.id)
        assert len(client.keys()) == 2
        assert client.nodes() == [{"incarnation": "aa"}]
        with pytest.raises(errors.JobNotFound):
            client.get("0197a3c4-0000-7000-8000-000000000000")
        assert client.retries == 0
    return found


async def test_everything_from_another_thread(site):
    working = asyncio.create_task(site.keep_working(add))
    async with asyncio.timeout(20):
        assert await asyncio.to_thread(use, site.urls, site.token) == list(range(20))
    working.cancel()


def test_it_must_be_open():
    client = SyncClient("http://127.0.0.1:1")
    with pytest.raises(errors.InvalidInput, match="with SyncClient"):
        client.queues()
    with pytest.raises(errors.InvalidInput, match="with SyncClient"):
        list(client.jobs())
    with client:
        pass
    with pytest.raises(errors.InvalidInput, match="with SyncClient"):
        client.nodes()


def test_it_has_the_same_calls():
    """`watch` is left out: it is how the asynchronous one waits for many."""

    def calls(cls: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in inspect.getmembers(cls, inspect.isfunction)
            if not name.startswith("_")
        }

    expected = calls(Client)
    del expected["watch"], expected["close"]
    assert calls(SyncClient) == expected
