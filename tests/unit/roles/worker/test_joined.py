"""What a worker does with a job whose end a handler wrote in a transaction of its own, which may be under way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from callboard import Callboard, Context
from callboard.jobs import engine as seam
from callboard.jobs import hints, model, states, transactions
from tests.unit.roles.worker import conftest

app = Callboard("t")


class Transaction:
    """Stands for a user's connection: what was written in it is there after `commit`."""

    def __init__(self, yard: conftest.Yard) -> None:
        self._yard = yard
        self._settle: seam.Settle | None = None

    def write(self, job: model.Job, result: bytes | None, now: int) -> None:
        assert job.node is not None
        self._settle = seam.Settle(job.domain, job.id, job.node, job.fence, states.succeeded(job, result, now).outcome)

    async def commit(self) -> None:
        assert self._settle is not None
        await self._yard.aside.exchange([self._settle], self._settle.node, (), 0)


@pytest.fixture
def begin(yard: conftest.Yard, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Transaction]:
    def complete(on: Transaction, job: model.Job, result: bytes | None, now: int) -> Awaitable[None] | None:
        on.write(job, result, now)
        return None

    monkeypatch.setattr(transactions, "complete", complete)
    return lambda: Transaction(yard)


class Gate:
    """A handler waits in its transaction until it is opened."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self) -> None:
        self.reached.set()
        await self.open.wait()


async def test_its_end_is_expected_and_told_to_who_waits(yard: conftest.Yard, begin: Callable[[], Transaction]) -> None:
    app = Callboard("t")

    @app.job
    async def pay(ctx: Context) -> str:
        on = begin()
        ctx.complete_in(on, "paid")
        await on.commit()
        return 7  # type: ignore[return-value]  # Ignored: it would be no result.

    heard: list[hints.Hint] = []
    yard.queue.hints.listen(heard.append)
    made = await yard.work(app)
    id = await yard.submit(app, "pay")
    assert await yard.result(id) == "paid"
    await yard.until(lambda: made.stats()["settled"] == 1)
    assert made.stats()["refused"] == 0
    assert await yard.errors(id) == []
    assert [each.finished for each in heard if each.finished] == [(id,)]


async def test_an_uncommitted_one_has_failed(yard: conftest.Yard, begin: Callable[[], Transaction]) -> None:
    app = Callboard("t")

    @app.job(attempts=1)
    async def pay(ctx: Context) -> None:
        ctx.complete_in(begin())

    await yard.work(app)
    id = await yard.submit(app, "pay")
    assert (await yard.end(id)).state is model.State.DISCARDED
    (error,) = await yard.errors(id)
    assert (error.type, error.message) == (
        "NotCommitted",
        "the handler called complete_in, and its transaction was not committed",
    )


async def test_what_the_handler_raised_is_kept(yard: conftest.Yard, begin: Callable[[], Transaction]) -> None:
    app = Callboard("t")

    @app.job(attempts=1)
    async def pay(ctx: Context) -> None:
        ctx.complete_in(begin())
        raise ConnectionError("at the commit")

    await yard.work(app)
    id = await yard.submit(app, "pay")
    assert (await yard.end(id)).state is model.State.DISCARDED
    assert [error.type for error in await yard.errors(id)] == ["ConnectionError"]


async def test_renewals_leave_it_alone_and_wishes_come_too_late(yard: conftest.Yard, begin: Callable[[], Transaction]) -> None:
    app = Callboard("t")
    gate, done = Gate(), Gate()

    @app.job
    async def pay(ctx: Context) -> None:
        ctx.progress(1, 2)
        on = begin()
        ctx.complete_in(on)
        ctx.progress(2, 2)
        await gate()
        await on.commit()
        await done()

    made = await yard.work(app)
    id = await yard.submit(app, "pay")
    await gate.reached.wait()
    await yard.queue.cancel("main", id)
    renewals = yard.engine.seen(seam.Renew)
    await yard.until(lambda: yard.engine.seen(seam.Renew) > renewals + 1)
    assert [op.claims for op in yard.engine.ops if isinstance(op, seam.Renew)][-2:] == [(), ()]
    assert (await yard.job(id)).progress is None
    gate.open.set()
    await done.reached.wait()
    renewals = yard.engine.seen(seam.Renew)
    await yard.until(lambda: yard.engine.seen(seam.Renew) > renewals + 1)
    assert made.stats()["running"] == 1
    done.open.set()
    assert (await yard.end(id)).state is model.State.COMPLETED
    await yard.until(lambda: made.stats()["settled"] == 1)


async def test_it_may_be_claimed_again_before_its_handler_ends(yard: conftest.Yard, begin: Callable[[], Transaction]) -> None:
    """As when a person sends it again as soon as it is completed."""
    app = Callboard("t")
    gate = Gate()

    @app.job
    async def pay(ctx: Context) -> None:
        on = begin()
        ctx.complete_in(on)
        await on.commit()
        if ctx.run == 1:
            await gate()

    made = await yard.work(app)
    id = await yard.submit(app, "pay")
    await gate.reached.wait()
    await yard.queue.retry("main", id)
    await yard.until(lambda: made.stats()["settled"] == 1)
    gate.open.set()
    await yard.until(lambda: made.stats()["abandoned"] == 0)
    assert ((await yard.job(id)).state, (await yard.job(id)).run) == (model.State.COMPLETED, 2)
    assert not made.wants_restart


async def test_a_thread_past_its_timeout_is_waited_for(yard: conftest.Yard, begin: Callable[[], Transaction]) -> None:
    """Its job may be locked: an end that waited for it would hold up all others."""
    app = Callboard("t")
    reached, go_on = threading.Event(), threading.Event()

    @app.job(timeout=0.5, attempts=1)
    def pay(ctx: Context) -> None:
        ctx.complete_in(begin())
        reached.set()
        assert go_on.wait(10)

    made = await yard.work(app)
    id = await yard.submit(app, "pay")
    await asyncio.to_thread(reached.wait, 10)
    run = made._runs.running["main", id]
    await yard.until(lambda: run.cancelled)
    renewals = yard.engine.seen(seam.Renew)
    await yard.until(lambda: yard.engine.seen(seam.Renew) > renewals + 3)
    assert yard.engine.seen(seam.Settle) == 0
    go_on.set()
    assert (await yard.end(id)).state is model.State.DISCARDED
    assert [error.type for error in await yard.errors(id)] == ["NotCommitted"]


async def test_a_stopping_worker_leaves_it_to_who_expires_its_claims(
    yard: conftest.Yard, begin: Callable[[], Transaction]
) -> None:
    app = Callboard("t")
    reached, go_on = threading.Event(), threading.Event()

    @app.job
    def pay(ctx: Context) -> None:
        ctx.complete_in(begin())
        reached.set()
        go_on.wait(10)

    made = await yard.work(app)
    id = await yard.submit(app, "pay")
    await asyncio.to_thread(reached.wait, 10)
    await made.drain(0.05)
    assert (await yard.job(id)).state is model.State.RUNNING
    assert yard.engine.seen(seam.Settle) + yard.engine.seen(seam.Release) == 0
    go_on.set()


async def test_what_did_not_get_into_the_transaction_leaves_no_trace(
    yard: conftest.Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Callboard("t")
    tries: list[Any] = [ValueError("at once"), _refused()]
    monkeypatch.setattr(transactions, "complete", lambda *_: _next(tries))

    @app.job
    async def pay(ctx: Context) -> str:
        for _ in range(2):
            with pytest.raises(ValueError):
                if (done := ctx.complete_in(None, "within")) is not None:
                    await done
        return "without"

    await yard.work(app)
    id = await yard.submit(app, "pay")
    assert await yard.result(id) == "without"


def _next(tries: list[Any]) -> Any:
    one = tries.pop(0)
    if isinstance(one, Exception):
        raise one
    return one


async def _refused() -> None:
    raise ValueError("when awaited")


@app.job(runs_in="process", attempts=1)
def joins(ctx: Context) -> None:
    """Stands for a child that has joined a transaction when it dies."""
    ctx._port.joined = True


async def test_a_child_tells_its_worker(yard: conftest.Yard) -> None:
    await yard.work(app)
    id = await yard.submit(app, "joins")
    assert (await yard.end(id)).state is model.State.DISCARDED
    assert [error.type for error in await yard.errors(id)] == ["NotCommitted"]
