"""The store's side: hints and looks, pauses, draining, and a store that is away."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from callboard import errors
from callboard.app import Callboard, Context, RetryLater
from callboard.jobs import engine as seam
from callboard.jobs import hints
from callboard.jobs.model import State
from callboard.kit import beat as beats
from callboard.roles import worker as workers
from callboard.roles.worker import claims

RUNNING = seam.Filter(domain="main", states=frozenset({State.RUNNING}))


class Stage:
    def __init__(self) -> None:
        self.app = app = Callboard("c")
        self.go = asyncio.Event()
        self.go_thread = threading.Event()
        self.begun: list[int] = []

        @app.job
        async def hold(n: int = 0) -> int:
            self.begun.append(n)
            await self.go.wait()
            return n

        @app.job
        async def quick(n: int = 0) -> int:
            return n

        @app.job
        def deaf() -> None:
            self.go_thread.wait(10)

        @app.job(attempts=1)
        async def thrice(ctx: Context) -> int:
            if ctx.fence < 3:
                raise RetryLater(0.02)
            return ctx.fence


@pytest.fixture
async def stage() -> Any:
    made = Stage()
    yield made
    made.go.set()
    made.go_thread.set()


async def test_a_lost_hint_costs_a_look(yard: Any, stage: Stage) -> None:
    await yard.work(stage.app)
    id = await yard.submit_to(yard.aside, stage.app, "quick", {"n": 1})
    assert await yard.result(id) == 1


async def test_an_idle_worker_only_reads(yard: Any, stage: Stage) -> None:
    await yard.work(stage.app)
    await yard.until(lambda: yard.engine.seen(seam.Claim) > 0)
    before = len(yard.engine.ops)
    looks = 0
    ready = yard.engine._engine.ready

    def counted(*args: Any) -> bool:
        nonlocal looks
        looks += 1
        return bool(ready(*args))

    yard.engine.ready = counted
    await yard.until(lambda: looks >= 3)
    assert len(yard.engine.ops) == before


async def test_the_end_of_a_batch_and_the_next_claim_share_a_commit(yard: Any, stage: Stage) -> None:
    ids = [await yard.submit(stage.app, "quick", n=n) for n in range(40)]
    await yard.work(stage.app, slots=10)
    for id in ids:
        await yard.end(id)
    assert yard.engine.seen(seam.Claim) <= 6


async def test_another_attempt_is_begun_when_it_is_due(yard: Any, stage: Stage) -> None:
    await yard.work(stage.app)
    assert await yard.result(await yard.submit(stage.app, "thrice")) == 3


async def test_another_attempt_without_delay_is_begun_at_once(yard: Any) -> None:
    app = Callboard("again")

    @app.job(attempts=20, backoff=0)
    async def at_last(ctx: Context) -> int:
        if ctx.attempt < 20:
            raise ValueError
        return ctx.attempt

    await yard.work(app)
    assert await yard.result(await yard.submit(app, "at_last")) == 20


async def test_a_paused_queue_rests_and_goes_on_at_once(yard: Any, stage: Stage) -> None:
    await yard.queue.pause("main", "default", True)
    worker = await yard.work(stage.app)
    id = await yard.submit(stage.app, "quick", n=4)
    look = yard.engine.seen(seam.Claim)
    await asyncio.wait([asyncio.ensure_future(yard.queue.wait("main", id, 0.15))])
    assert (await yard.job(id)).state is State.AVAILABLE
    assert yard.engine.seen(seam.Claim) == look
    await yard.queue.pause("main", "default", False)
    assert await yard.result(id) == 4
    assert worker.stats()["claimed"] == 1


async def test_all_queues_and_both_lanes_have_their_turn(yard: Any) -> None:
    app = Callboard("q")

    @app.job(queue="a")
    async def first() -> None: ...

    @app.job(queue="b", lane="short")
    async def second() -> None: ...

    ids = [await yard.submit(app, name) for name in ("first", "second") * 20]
    worker = await yard.work(app, slots=2)
    for id in ids:
        assert (await yard.end(id)).state is State.COMPLETED
    assert worker.facts()["queues"] == ["a", "b"]


async def test_given_queues_and_domains_only(yard: Any, stage: Stage) -> None:
    worker = await yard.work(stage.app, queues=["bulk"], domains=["team.acme"])
    other = await yard.submit(stage.app, "quick")
    ours = await yard.submit_to(yard.queue, stage.app, "quick", {}, queue="bulk", domain="team.acme")
    job = await yard.queue.wait("team.acme", ours, 5)
    assert job.state is State.COMPLETED
    assert (await yard.job(other)).state is State.AVAILABLE
    assert worker.facts() == {
        "kinds": {f"c.{name}": [1] for name in ("hold", "quick", "deaf", "thrice")},
        "slots": 4,
        "domains": ["team.acme"],
        "queues": ["bulk"],
        "running": 0,
    }


async def test_draining_lets_handlers_end_and_claims_nothing(yard: Any, stage: Stage) -> None:
    worker = await yard.work(stage.app, slots=1)
    held, waiting = await yard.submit(stage.app, "hold", n=1), await yard.submit(stage.app, "quick")
    await yard.until(lambda: stage.begun == [1])
    draining = asyncio.ensure_future(worker.drain(5))
    await asyncio.sleep(0)
    stage.go.set()
    await draining
    assert (await yard.job(held)).state is State.COMPLETED
    assert (await yard.job(waiting)).state is State.AVAILABLE


@pytest.mark.parametrize("kind", ["hold", "deaf"])
async def test_what_does_not_end_in_its_grace_is_handed_back(yard: Any, stage: Stage, kind: str) -> None:
    worker = await yard.work(stage.app)
    id = await yard.submit(stage.app, kind)
    await yard.becomes(id, State.RUNNING)
    await worker.drain(0.05)
    job = await yard.job(id)
    assert (job.state, job.attempts, job.deaths) == (State.AVAILABLE, 0, 0)


async def test_stopping_without_draining_hands_back_too(yard: Any, stage: Stage) -> None:
    worker = await yard.work(stage.app)
    id = await yard.submit(stage.app, "hold")
    await yard.becomes(id, State.RUNNING)
    await worker.stop()
    assert (await yard.job(id)).state is State.AVAILABLE
    with pytest.raises(errors.InvalidInput, match="not connected"):
        _ = stage.app.connection


async def test_a_claim_under_way_when_draining_begins_is_handed_back(yard: Any, stage: Stage) -> None:
    gate, inside = threading.Event(), threading.Event()

    def answer_waits(units: Any) -> bool:
        if yard.engine.find(RUNNING, 1).jobs:
            inside.set()
            gate.wait(5)
        return False

    worker = await yard.work(stage.app)
    yard.engine.forgets = answer_waits
    given = asyncio.ensure_future(yard.submit(stage.app, "hold", n=1))
    await yard.until(inside.is_set)
    draining = asyncio.ensure_future(worker.drain(5))
    await asyncio.sleep(0)
    gate.set()
    await draining
    job = await yard.job(await given)
    assert (job.state, job.attempts, job.fence) == (State.AVAILABLE, 0, 1)
    assert stage.begun == []


async def test_results_are_kept_while_the_store_is_away(yard: Any, stage: Stage) -> None:
    worker = await yard.work(stage.app, slots=3)
    ids = [await yard.submit(stage.app, "hold", n=n) for n in range(5)]
    await yard.until(lambda: len(stage.begun) == 3)
    failures = 0

    def full() -> errors.StoreFull:
        nonlocal failures
        failures += 1
        return errors.StoreFull("no space left: free some")

    yard.engine.fails = full
    stage.go.set()
    await yard.until(lambda: failures >= 3)
    assert len(stage.begun) == 3
    assert worker.stats()["settled"] == 0
    yard.engine.fails = lambda: None
    assert [await yard.result(id) for id in ids] == list(range(5))
    assert [(await yard.job(id)).fence for id in ids] == [1] * len(ids)
    assert worker.stats()["refused"] == 0


@pytest.mark.parametrize("lost", [seam.Settle, seam.Claim])
async def test_an_answer_that_was_lost_loses_no_job(yard: Any, stage: Stage, lost: type[seam.Op]) -> None:
    """The store made the claim, or settled, and could not say so: claims are found again, settles are done."""
    times = 0

    def forgets(units: Any) -> bool:
        nonlocal times
        hit = any(isinstance(op, lost) for unit in units for op in unit) and (
            lost is seam.Settle or bool(yard.engine.find(RUNNING, 1).jobs)
        )
        times += hit
        return hit and times <= 2

    yard.engine.forgets = forgets
    ids = [await yard.submit(stage.app, "quick", n=n) for n in range(3)]
    worker = await yard.work(stage.app, slots=2)
    assert [await yard.result(id) for id in ids] == [0, 1, 2]
    assert [(await yard.job(id)).fence for id in ids] == [1] * len(ids)
    assert times >= 1
    assert worker.stats()["refused"] == 0


async def test_nothing_begins_by_a_claim_that_was_over_when_its_answer_came(yard: Any, stage: Stage, monkeypatch: Any) -> None:
    """As after a freeze, in which the node was taken for dead: the handler begins under the next claim alone."""
    monkeypatch.setattr(claims, "LATE_NS", 0)
    id = await yard.submit(stage.app, "hold", n=7)
    lost: list[bytes] = []

    def expired(units: Any) -> bool:
        if not lost and (running := yard.engine.find(RUNNING, 1).jobs):
            lost.append(running[0].node)
            yard.engine._engine.apply([(seam.Expire((running[0].node,), 10, yard.queue.clock.now()),)])
        return False

    yard.engine.forgets = expired
    await yard.work(stage.app)
    await yard.until(lambda: stage.begun)
    stage.go.set()
    assert await yard.result(id) == 7
    found = await yard.job(id)
    assert lost and stage.begun == [7] and (found.fence, found.deaths) == (2, 1)


async def test_the_beat_knows_of_handlers_before_they_begin(yard: Any, tmp_path: Any) -> None:
    app = Callboard("b")
    beat = beats.Beat.create(tmp_path / "node.beat")
    clock = yard.queue.clock

    @app.job(timeout=30)
    async def look() -> list[int]:
        return list(beat.read())

    @app.job
    async def unbounded() -> list[int]:
        return list(beat.read())

    await yard.work(app, beat=beat)
    _, running, deadline = await yard.result(await yard.submit(app, "look"))
    assert running == 1
    assert 20e9 < deadline - clock.boot() <= 30e9
    assert (await yard.result(await yard.submit(app, "unbounded")))[1:] == [1, 0]
    await yard.until(lambda: beat.read().running == 0)


async def test_when_claims_have_failed_a_worker_does_not_wait_for_them(yard: Any, stage: Stage) -> None:
    """What runs can be settled by nobody any more: the node is to be restarted, at once."""

    def broken(*_: Any) -> bool:
        raise AssertionError("a fault of ours")

    worker = await yard.work(stage.app)
    id = await yard.submit(stage.app, "hold")
    await yard.becomes(id, State.RUNNING)
    yard.engine.ready = broken
    await yard.until(lambda: worker.wants_restart)
    async with asyncio.timeout(2):
        await worker.drain(60)
        await worker.stop()
    assert (await yard.job(id)).state is State.RUNNING


async def test_a_worker_does_not_go_on_waiting_when_claims_fail(yard: Any, stage: Stage, monkeypatch: Any) -> None:
    def broken(_: Any) -> None:
        raise AssertionError("a fault of ours")

    worker = await yard.work(stage.app)
    await yard.becomes(await yard.submit(stage.app, "hold"), State.RUNNING)
    draining = asyncio.ensure_future(worker.drain(60))
    await asyncio.sleep(0)
    assert not draining.done()
    monkeypatch.setattr(worker._runs, "tell", broken)
    stage.go.set()
    async with asyncio.timeout(2):
        await draining


async def test_life(yard: Any, stage: Stage) -> None:
    made = workers.Worker(yard.queue, stage.app, node=b"n" * 16, slots=1)
    await made.drain(1)
    await made.stop()
    await made.stop()
    with pytest.raises(RuntimeError):
        await made.start()
    for _ in range(20):
        again = await yard.work(stage.app, slots=2)
        id = await yard.submit(stage.app, "quick", n=2)
        await asyncio.gather(again.drain(1), again.stop(), again.stop())
        assert (await yard.job(id)).state in (State.AVAILABLE, State.COMPLETED)
    assert (await again.ping())["role"] == "worker"


async def test_an_app_without_jobs_idles(yard: Any) -> None:
    worker = await yard.work(Callboard("empty"))
    await asyncio.sleep(0)
    assert not worker.wants_restart
    await worker.drain(1)
    assert not yard.engine.ops


async def test_workers_that_heard_the_same_hint_do_not_look_in_step(yard: Any, stage: Stage) -> None:
    looks = [(await yard.work(stage.app))._claims for _ in range(5)]
    for each in looks:
        each._poll_seconds = 600.0
    yard.queue.hints.publish(hints.Hint(ready=(("main", "default"),)))
    now = asyncio.get_running_loop().time()
    await yard.until(lambda: all(each._look_due > now + 400 for each in looks))
    due = [each._look_due - now for each in looks]
    assert max(due) <= 600 + asyncio.get_running_loop().time() - now
    assert max(due) - min(due) > 1, "they would all ask the store at once"
