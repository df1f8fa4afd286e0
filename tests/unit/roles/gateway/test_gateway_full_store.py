"""A store that takes only so many jobs: what a submitter over HTTP is told, and that it goes on once there is room."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from callboard.jobs import queue as queues
from callboard.jobs.engines import memory
from callboard.kit import uuid7
from tests.unit import limited

LIMIT = 3
WAYS = ["/v1/jobs", "/v1/jobs?domain=main"]
"""The edge answers the first one itself, the framework's route the other."""


@pytest.fixture
async def queue() -> AsyncIterator[queues.Queue]:
    made = queues.Queue(limited.Limited(memory.open("memory:"), LIMIT))
    await made.start()
    yield made
    await made.stop()


def make_id() -> str:
    return uuid7.text(uuid7.make(time.time_ns() // 1000))


def batch(*ids: str) -> dict[str, object]:
    return {"jobs": [{"kind": "app.resize", "id": id} for id in ids]}


def told(answer) -> list[object]:
    return [each.get("created", each.get("error", {}).get("code")) for each in answer.body["results"]]


@pytest.mark.parametrize("way", WAYS)
async def test_a_full_store_is_a_503_until_there_is_room(api, way):
    first = make_id()
    for id in (first, make_id(), make_id()):
        assert (await api("POST", way, {"kind": "app.resize", "id": id})).status == 201
    refused = await api("POST", way, {"kind": "app.resize"})
    assert (refused.status, refused.body["code"], refused.body["retryable"]) == (503, "store_full", True)
    assert refused.headers["Retry-After"] == "1"
    assert (refused.body["limit"], "limit of 3 jobs" in refused.body["detail"]) == (LIMIT, True)
    assert (await api("POST", way, {"kind": "app.resize", "id": first})).status == 200, "what is there already needs no room"
    await api.settle(await api.claim(limit=1))
    assert (await api("POST", way, {"kind": "app.resize"})).status == 201


async def test_a_batch_is_told_what_was_taken_of_it(api):
    ids = [make_id() for _ in range(5)]
    answer = await api("POST", "/v1/jobs/batch", batch(*ids))
    assert (answer.status, told(answer)) == (200, [True] * 3 + ["store_full"] * 2)
    assert [each["id"] for each in answer.body["results"]] == ids
    again = await api("POST", "/v1/jobs/batch", batch(*ids))
    assert told(again) == [False] * 3 + ["store_full"] * 2


async def test_a_batch_of_which_nothing_is_taken_is_a_503(api):
    ids = [make_id() for _ in range(5)]
    await api("POST", "/v1/jobs/batch", batch(*ids[:3]))
    answer = await api("POST", "/v1/jobs/batch", batch(*ids[3:]))
    assert (answer.status, answer.body["code"], answer.headers["Retry-After"]) == (503, "store_full", "1")
    await api.settle(await api.claim(limit=2))
    assert told(await api("POST", "/v1/jobs/batch", batch(*ids[3:]))) == [True, True]
