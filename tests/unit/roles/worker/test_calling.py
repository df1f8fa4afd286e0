"""Handlers that call named services: from the node's loop, from threads, and from processes, which cannot."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from callboard import Call, Callboard, method
from callboard.roles import service
from tests.unit import inhouse

app = Callboard("calling")


@app.service("cache", active="all")
class Cache:
    @method
    async def get(self, call: Call, key: str) -> str:
        return key.upper()

    @method
    async def none(self) -> None:
        raise ValueError("empty")


@app.job
async def in_loop(key: str) -> str:
    return str(await app.call("cache", "get", key=key))


@app.job(runs_in="thread")
async def in_thread(key: str) -> str:
    return str(await app.name("cache", timeout=5).get(key=key))


@app.job(attempts=1)
async def failing() -> None:
    await app.call("cache", "none")


@pytest.fixture
async def node() -> AsyncIterator[inhouse.Inhouse]:
    found = inhouse.Inhouse()
    hosted = service.Service(app.services["cache"], clock=found.clock)
    found.table.add(hosted)
    await hosted.start()
    app.call_through(found)
    yield found
    app.call_through(None)
    await hosted.stop()


@pytest.mark.parametrize("kind", ["in_loop", "in_thread"])
async def test_handlers_call_names(yard, node, kind):
    await yard.work(app)
    assert await yard.result(await yard.submit(app, kind, key="a")) == "A"


async def test_what_a_service_raises_fails_the_attempt(yard, node):
    await yard.work(app)
    id = await yard.submit(app, "failing")
    await yard.end(id)
    (error,) = await yard.errors(id)
    assert (error.type, error.message) == ("ServiceError", "ValueError: empty")


async def test_a_handler_in_a_process_of_its_own_is_told_that_it_cannot(yard, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    process_jobs = importlib.import_module("process_jobs")
    await yard.work(process_jobs.app)
    id = await yard.submit(process_jobs.app, "calling")
    await yard.end(id)
    (error,) = await yard.errors(id)
    assert error.type == "InvalidInput"
    assert "not in a process of its own" in error.message
