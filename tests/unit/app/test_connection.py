"""Submitting and awaiting, in process and through a gateway: the same to the one who does it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from callboard import Callboard, Discard, errors
from callboard.coordination import engine as coordination
from callboard.jobs import model
from callboard.jobs import queue as queues
from callboard.jobs.engines import memory
from callboard.kit import uuid7
from callboard.roles.gateway import Gateway, keys
from callboard.roles.worker import Worker
from tests.unit import limited

app = Callboard("shop")


@dataclasses.dataclass
class Receipt:
    total: float
    at: datetime


@app.job(attempts=2, tags=("paid",), queue="till", priority=3)
async def sell(items: dict[str, float], at: datetime, scan: bytes = b"") -> Receipt:
    return Receipt(sum(items.values()) + len(scan), at)


@app.job
async def refuse() -> None:
    raise Discard("closed")


@app.job
async def hold() -> None:
    await asyncio.Event().wait()


NOW = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
async def store() -> AsyncIterator[queues.Queue]:
    made = queues.Queue(memory.open("memory:"))
    await made.start()
    worker = Worker(made, app, node=uuid7.make(made.clock.now()), slots=4, queues=["default", "till"])
    await worker.start()
    yield made
    await worker.stop()
    await made.stop()


@pytest.fixture(params=["store", "gateway", "gateway that knows no kinds"])
async def connected(request: Any, store: queues.Queue) -> AsyncIterator[Any]:
    if request.param == "store":
        async with app.connect(store) as connection:
            yield connection
        return

    async def entries() -> list[coordination.Entry]:
        return []

    gateway = Gateway(store, app.kinds if request.param == "gateway" else {}, "127.0.0.1", 0, entries)
    await gateway.start()
    async with app.connect(gateway.url, key=await keys.ensure_admin(store)) as connection:
        yield connection
    await gateway.stop()


async def test_a_result_comes_back_as_it_was(connected: Any) -> None:
    sold = await sell.submit(items={"tea": 2.5, "milk": 1}, at=NOW, scan=b"\x00\xff")
    assert sold.created
    assert uuid7.parse(sold.id)
    assert await sold.result(10) == Receipt(5.5, NOW)
    assert await sold.wait() == "completed"
    assert "shop.sell" in repr(sold)


async def test_what_is_declared_holds_whoever_takes_it(connected: Any, store: queues.Queue) -> None:
    sold = await sell.options(delay=60, priority=0).submit(items={}, at=NOW)
    job = await store.get("main", uuid7.parse(sold.id))
    assert job is not None
    assert (job.queue, job.tags, job.max_attempts, job.priority) == ("till", ("paid",), 2, 0)
    assert job.state is model.State.SCHEDULED
    assert await sold.cancel() == "cancelled"
    assert await sold.cancel() == "cancelled"
    done = await sell.submit(items={}, at=NOW)
    await done.wait(10)
    with pytest.raises(errors.StateRefused):
        await done.cancel()


async def test_many_at_once(connected: Any) -> None:
    sold = await sell.submit_many([{"items": {"tea": n}, "at": NOW} for n in range(30)])
    assert [(await each.result(10)).total for each in sold] == list(range(30))
    assert await sell.submit_many([]) == []


async def test_other_ends_are_told(connected: Any) -> None:
    refused = await refuse.submit()
    assert await refused.wait(10) == "discarded"
    with pytest.raises(errors.JobFailed, match=r"is discarded: closed$") as caught:
        await refused.result(10)
    assert caught.value.data["reason"] == "discarded"
    held = await hold.submit()
    with pytest.raises(errors.WaitTimeout):
        await held.wait(0.01)
    assert await held.cancel() in ("cancelled", "cancel_requested")
    assert await held.wait(10) == "cancelled"


async def test_bad_arguments_are_refused_at_once_and_nothing_is_stored(connected: Any, store: queues.Queue) -> None:
    with pytest.raises(errors.InvalidArguments, match="no offset"):
        await sell.submit(items={}, at=datetime(2026, 1, 1))
    with pytest.raises(errors.InvalidArguments) as caught:
        await sell.submit_many([{"items": {}, "at": NOW}, {"items": 3, "at": NOW}])
    assert caught.value.data["index"] == 1
    with pytest.raises(errors.InvalidInput, match="priority"):
        await sell.options(priority=11).submit(items={}, at=NOW)
    assert await store.counts("main") == []


async def test_the_same_id_makes_no_second_job(connected: Any, store: queues.Queue) -> None:
    id = uuid7.text(uuid7.make(store.clock.now()))
    first = await sell.options(id=id).submit(items={}, at=NOW)
    again = await sell.options(id=id).submit(items={}, at=NOW)
    assert (first.created, again.created, again.id) == (True, False, id)
    with pytest.raises(errors.IdConflict):
        await sell.options(id=id).submit(items={"tea": 1}, at=NOW)
    with pytest.raises(errors.InvalidId):
        await sell.options(id="not-an-id").submit(items={}, at=NOW)
    old = uuid7.text(uuid7.make(store.clock.now() - 3600 * 1_000_000))
    with pytest.raises(errors.IdExpired):
        await sell.options(id=old).submit(items={}, at=NOW)


async def test_a_full_store_is_told_with_its_limit_and_the_first_that_had_no_room() -> None:
    full = queues.Queue(limited.Limited(memory.open("memory:"), 2))
    await full.start()
    async with app.connect(full):
        with pytest.raises(errors.StoreFull, match="limit of 2 jobs") as caught:
            await sell.submit_many([{"items": {}, "at": NOW}] * 3)
    assert (caught.value.retryable, caught.value.data) == (True, {"limit": 2, "index": 2})
    await full.stop()


async def test_a_domain_for_all(store: queues.Queue) -> None:
    async with app.connect(store, domain="team.acme"):
        sold = await sell.submit(items={}, at=NOW)
        assert sold.domain == "team.acme"
        assert (await sell.options(domain="other").submit(items={}, at=NOW)).domain == "other"


async def test_a_store_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Callboard("own")

    @own.job
    async def f(n: int) -> int:
        return n

    url = f"sqlite:///{str(tmp_path / 'own.db').lstrip('/')}"
    async with own.connect(url):
        made = await f.submit(n=3)
        with pytest.raises(errors.InvalidInput, match="connected already"):
            async with own.connect("memory:"):
                pass
    with pytest.raises(errors.InvalidInput, match="not connected"):
        await f.submit(n=3)
    (tmp_path / "callboard.toml").write_text(f'[store]\nurl = "{url}"\n')
    monkeypatch.chdir(tmp_path)
    async with own.connect():
        again = await f.options(id=made.id).submit(n=3)
        assert not again.created


async def test_what_cannot_be_opened_leaves_no_connection(tmp_path: Path) -> None:
    own = Callboard("own")
    with pytest.raises(errors.InvalidSetting):
        async with own.connect("nosuch:store"):
            pass
    with pytest.raises(errors.InvalidInput, match="not connected"):
        _ = own.connection
