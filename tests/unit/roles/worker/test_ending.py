"""How handlers are made to end: timeouts, wishes, lost claims, and threads that do not listen."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from callboard.app import Callboard, Cancelled, Context
from callboard.jobs import engine as seam
from callboard.jobs.model import Progress, Reason, State
from callboard.kit import uuid7


class Stage:
    """Handlers that do as the test says."""

    def __init__(self) -> None:
        self.app = app = Callboard("e")
        self.go = asyncio.Event()
        self.go_thread = threading.Event()
        self.begun: set[str] = set()
        self.cancelled: list[str] = []
        self.progressed = 0

        @app.job(attempts=1)
        async def wait() -> str:
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.cancelled.append("wait")
                raise
            return "done"

        @app.job(attempts=1)
        async def stubborn() -> str:
            self.begun.add("stubborn")
            while not self.go.is_set():
                try:
                    await self.go.wait()
                except asyncio.CancelledError:
                    self.cancelled.append("stubborn")
            return "done"

        @app.job(attempts=1)
        async def trips() -> None:
            self.begun.add("trips")
            try:
                await self.go.wait()
            finally:
                raise ValueError("on the way out")

        @app.job(attempts=1)
        def listens(ctx: Context) -> str:
            while not self.go_thread.wait(0.005):
                ctx.check_cancelled()
            return "done"

        @app.job(attempts=1)
        def deaf(ctx: Context) -> str:
            self.begun.add("deaf")
            self.go_thread.wait(10)
            self.cancelled.append(f"deaf {ctx.cancelled}")
            return "done"

        @app.job(attempts=1)
        async def progresses(ctx: Context) -> None:
            ctx.progress(1, 3, "one")
            await self.go.wait()

    def release(self) -> None:
        self.go.set()
        self.go_thread.set()


@pytest.fixture
async def stage() -> Any:
    made = Stage()
    yield made
    made.release()


async def running(yard: Any, stage: Stage, kind: str, **options: Any) -> bytes:
    id: bytes = await yard.submit_to(yard.queue, stage.app, kind, {}, **options)
    await yard.becomes(id, State.RUNNING)
    return id


@pytest.mark.parametrize("kind", ["wait", "listens"])
async def test_a_timeout_ends_a_handler_that_listens(yard: Any, stage: Stage, kind: str) -> None:
    worker = await yard.work(stage.app, abandon_seconds=5)
    job = await yard.end(id := await yard.submit_to(yard.queue, stage.app, kind, {}, timeout=0.05))
    (error,) = await yard.errors(id)
    assert (job.state, job.reason, job.attempts) == (State.DISCARDED, Reason.ATTEMPTS_EXHAUSTED, 1)
    assert (error.code, error.message) == (Reason.TIMEOUT, "not finished after its timeout of 0.05 s")
    assert worker.stats()["abandoned"] == 0


async def test_an_error_on_the_way_out_is_a_timeout_with_its_traceback(yard: Any, stage: Stage) -> None:
    await yard.work(stage.app)
    await yard.end(id := await yard.submit_to(yard.queue, stage.app, "trips", {}, timeout=0.05))
    (error,) = await yard.errors(id)
    assert error.code == Reason.TIMEOUT
    assert "on the way out" in error.traceback


async def test_a_result_that_comes_late_but_before_the_claim_ended_counts(yard: Any, stage: Stage) -> None:
    await yard.work(stage.app, abandon_seconds=5)
    id = await running(yard, stage, "stubborn", timeout=0.05)
    await yard.until(lambda: bool(stage.cancelled))
    stage.go.set()
    assert await yard.result(id) == "done"


@pytest.mark.parametrize("kind", ["stubborn", "deaf"])
async def test_a_handler_that_does_not_end_keeps_its_slot(yard: Any, stage: Stage, kind: str) -> None:
    worker = await yard.work(stage.app, slots=2)
    stuck = await yard.end(await yard.submit_to(yard.queue, stage.app, kind, {}, timeout=0.05))
    assert stuck.reason == Reason.ATTEMPTS_EXHAUSTED
    assert worker.stats()["abandoned"] == 1
    assert worker.wants_restart
    waiting = [await yard.submit(stage.app, "wait") for _ in range(2)]
    await yard.until(lambda: worker.stats()["running"] == 1)
    stage.go_thread.set()
    stage.go.set()
    await yard.until(lambda: worker.stats()["abandoned"] == 0)
    assert not worker.wants_restart
    for id in waiting:
        await yard.end(id)
    assert (await yard.job((stuck).id)).state is State.DISCARDED
    assert kind != "deaf" or stage.cancelled == ["deaf True"]


@pytest.mark.parametrize("heard", ["by hint", "by renewal"])
@pytest.mark.parametrize("kind", ["wait", "listens"])
async def test_a_wish_ends_a_handler(yard: Any, stage: Stage, kind: str, heard: str) -> None:
    await yard.work(stage.app)
    id = await running(yard, stage, kind)
    assert await (yard.queue if heard == "by hint" else yard.aside).cancel("main", id) is State.RUNNING
    job = await yard.end(id)
    assert (job.state, job.reason, job.attempts) == (State.CANCELLED, Reason.CANCELLED, 0)


@pytest.mark.parametrize(
    ("kind", "state"), [("stubborn", State.COMPLETED), ("deaf", State.COMPLETED), ("trips", State.CANCELLED)]
)
async def test_success_after_a_wish_is_success_and_failure_is_not(yard: Any, stage: Stage, kind: str, state: State) -> None:
    await yard.work(stage.app)
    id = await running(yard, stage, kind)
    await yard.until(lambda: kind in stage.begun)  # One that has not begun is cancelled without.
    await yard.queue.cancel("main", id)
    stage.release()
    job = await yard.end(id)
    assert job.state is state


async def test_a_wish_does_not_lift_the_timeout(yard: Any, stage: Stage) -> None:
    await yard.work(stage.app)
    id = await running(yard, stage, "stubborn", timeout=0.3)
    await yard.until(lambda: "stubborn" in stage.begun)
    await yard.queue.cancel("main", id)
    job = await yard.end(id)
    assert (job.state, stage.cancelled[:2]) == (State.CANCELLED, ["stubborn", "stubborn"])


async def test_a_lost_claim_ends_the_handler_and_is_not_settled(yard: Any, stage: Stage) -> None:
    node = uuid7.make(yard.queue.clock.now())
    worker = await yard.work(stage.app, slots=1, node=node)
    id = await running(yard, stage, "wait")
    await yard.aside.expire([node])
    await yard.until(lambda: bool(stage.cancelled))
    await yard.until(lambda: worker.stats()["claimed"] == 2)  # The slot is free again, and the job may come back.
    assert worker.stats()["settled"] == 0
    job = await yard.job(id)
    assert (job.fence, job.deaths, job.attempts) == (2, 1, 0)
    stage.go.set()
    assert await yard.result(id) == "done"


async def test_a_settle_that_comes_too_late_changes_nothing(yard: Any, stage: Stage) -> None:
    worker = await yard.work(stage.app, slots=1, renew_seconds=60)
    id = await running(yard, stage, "wait")
    node = (await yard.job(id)).node
    await yard.aside.expire([node])
    other = seam.Take("main", "default", (await yard.job(id)).lane, (("e.wait", (1,)),), 1)
    _, (taken,) = await yard.aside.exchange([], b"other", [other], 1)
    assert taken.id == id
    stage.go.set()
    await yard.until(lambda: worker.stats()["refused"] == 1)
    job = await yard.job(id)
    assert (job.state, job.node, job.fence) == (State.RUNNING, b"other", 2)


async def test_one_renewal_for_all_and_none_at_rest(yard: Any, stage: Stage) -> None:
    await yard.work(stage.app, slots=10)
    assert yard.engine.seen(seam.Renew) == 0
    ids = [await running(yard, stage, "progresses") for _ in range(3)]

    async def progressed() -> bool:
        return all([(await yard.job(id)).progress == Progress(1, 3, "one") for id in ids])

    await yard.until(progressed)
    start = yard.engine.seen(seam.Renew)
    await yard.until(lambda: yard.engine.seen(seam.Renew) >= start + 2)
    renewals = [op for op in yard.engine.ops if isinstance(op, seam.Renew)]
    assert len(renewals[-1].claims) == 3
    assert all(progress is None for *_, progress in renewals[-1].claims)  # Told once, and not again.
    stage.go.set()
    for id in ids:
        await yard.end(id)
    ended = yard.engine.seen(seam.Renew)
    await yard.end(await yard.submit(stage.app, "wait"))
    assert yard.engine.seen(seam.Renew) <= ended + 1


async def test_cancelled_is_raised_only_when_asked(stage: Stage) -> None:
    assert issubclass(Cancelled, BaseException)
    assert not issubclass(Cancelled, Exception)
