"""Handlers as jobs: what is passed in, what comes out, where they run, and how many at a time."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from typing import Any

import pytest

from callboard.app import Callboard, Context, Discard, RetryLater
from callboard.jobs import model
from callboard.jobs.model import Reason, State

app = Callboard("t")
flavour: contextvars.ContextVar[str] = contextvars.ContextVar("flavour", default="plain")


@app.job
async def double(n: int) -> int:
    return n * 2


@app.job
async def wait_and_double(n: int) -> int:
    await asyncio.sleep(0)
    return n * 2


@app.job
def in_thread(n: int) -> dict[str, int | str]:
    return {"n": n, "thread": threading.current_thread().name}


@app.job(attempts=3, backoff=0)
async def context_facts(ctx: Context) -> dict[str, Any]:
    return {
        "id": ctx.id,
        "kind": ctx.kind,
        "run": ctx.run,
        "attempt": ctx.attempt,
        "fence": ctx.fence,
        "deadline": ctx.deadline,
        "tags": ctx.tags,
        "cancelled": ctx.cancelled,
    }


@app.job(attempts=3, backoff=0)
async def fail() -> None:
    raise ValueError("no luck \ud800\x00")


@app.job(attempts=2, backoff=0)
def fail_deeply() -> None:
    fail_deeply.handler.function()


@app.job(attempts=1)
async def exits(wait: bool, what: str) -> None:
    if wait:
        await asyncio.sleep(0)
    raise {"exit": SystemExit(3), "interrupt": KeyboardInterrupt(), "generator": GeneratorExit()}[what]


@app.job(attempts=1)
def exits_thread() -> None:
    sys.exit(3)


@app.job(attempts=5)
async def give_up() -> None:
    raise Discard("nothing to be done")


@app.job(attempts=1)
async def later(ctx: Context) -> int:
    if ctx.fence == 1:
        raise RetryLater(0.02, "not yet")
    return ctx.attempt


@app.job(attempts=4)
async def wrong_result() -> int:
    return "text"  # type: ignore[return-value]


@app.job(attempts=4)
async def huge_result() -> str:
    return "x" * (model.MAX_PAYLOAD + 1)


@app.job
async def sets_flavour(wait: bool) -> str:
    before = flavour.get()
    flavour.set("spoiled")
    if wait:
        await asyncio.sleep(0)
        assert flavour.get() == "spoiled"
        flavour.set("spoiled again")
    return before


@app.job
async def is_a_task() -> list[int]:
    me = asyncio.current_task()
    assert me is not None
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(asyncio.sleep(0, n)) for n in range(3)]
    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(10))
            group.create_task(_boom())
    assert asyncio.current_task() is me
    return [task.result() for task in tasks]


async def _boom() -> None:
    raise ValueError


@app.job(attempts=1)
async def cancels_itself(wait: bool) -> str:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    if wait:
        await asyncio.sleep(0)
    return "unharmed"


async def test_async_and_thread_handlers(yard: Any) -> None:
    await yard.work(app)
    ids = [await yard.submit(app, "double", n=n) for n in range(20)]
    ids += [await yard.submit(app, "wait_and_double", n=n) for n in range(20)]
    assert [await yard.result(id) for id in ids] == [n * 2 for n in range(20)] * 2
    found = await yard.result(await yard.submit(app, "in_thread", n=3))
    assert found["n"] == 3
    assert found["thread"].startswith("callboard-handler")


async def test_a_handler_sees_its_job(yard: Any) -> None:
    await yard.work(app)
    id = await yard.submit_to(yard.queue, app, "context_facts", {}, tags=("a", "b"), timeout=60)
    facts = await yard.result(id)
    job = await yard.job(id)
    assert facts["id"].replace("-", "") == id.hex()
    assert (facts["kind"], facts["run"], facts["attempt"], facts["fence"]) == ("t.context_facts", 1, 1, 1)
    assert facts["tags"] == ["a", "b"]
    assert facts["deadline"].endswith("Z")
    assert facts["cancelled"] is False
    assert job.attempts == 1


async def test_failures_are_retried_and_told(yard: Any) -> None:
    await yard.work(app)
    job = await yard.end(id := await yard.submit(app, "fail"))
    assert (job.state, job.reason, job.attempts) == (State.DISCARDED, Reason.ATTEMPTS_EXHAUSTED, 3)
    said = await yard.errors(id)
    assert [(each.attempt, each.code, each.type) for each in said] == [(n, Reason.FAILED, "ValueError") for n in (1, 2, 3)]
    assert said[0].message == "no luck \\ud800\\x00"
    assert "in fail\n" in said[0].traceback
    assert "callboard/roles/worker" not in said[0].traceback


async def test_a_deep_traceback_is_bounded(yard: Any) -> None:
    await yard.work(app)
    await yard.end(id := await yard.submit(app, "fail_deeply"))
    said = await yard.errors(id)
    assert said[0].type == "RecursionError"
    assert 0 < len(said[0].traceback) <= model.MAX_TRACEBACK


@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize(("what", "name"), [("exit", "SystemExit"), ("interrupt", "KeyboardInterrupt"), ("generator", "")])
async def test_leaving_ends_the_job_and_not_the_worker(yard: Any, wait: bool, what: str, name: str) -> None:
    await yard.work(app, slots=1)
    job = await yard.end(id := await yard.submit(app, "exits", wait=wait, what=what))
    assert job.state is State.DISCARDED
    assert name in (await yard.errors(id))[0].type
    assert await yard.result(await yard.submit(app, "wait_and_double", n=1)) == 2


async def test_leaving_a_thread_ends_the_job_only(yard: Any) -> None:
    await yard.work(app, slots=1)
    await yard.end(id := await yard.submit(app, "exits_thread"))
    assert (await yard.errors(id))[0].type == "SystemExit"
    assert (await yard.result(await yard.submit(app, "in_thread", n=1)))["n"] == 1


async def test_discard_and_retry_later(yard: Any) -> None:
    await yard.work(app)
    job = await yard.end(id := await yard.submit(app, "give_up"))
    assert (job.state, job.reason, job.attempts) == (State.DISCARDED, Reason.DISCARDED, 1)
    assert (await yard.errors(id))[0].message == "nothing to be done"
    assert await yard.result(await yard.submit(app, "later")) == 1


@pytest.mark.parametrize(
    ("kind", "args", "code", "said"),
    [
        ("double", {"n": "one"}, Reason.INVALID_ARGUMENTS, "Expected 'int', got 'str' at 'n'"),
        ("double", {"n": 1, "m": 2}, Reason.INVALID_ARGUMENTS, "unknown field 'm'"),
        ("double", {}, Reason.INVALID_ARGUMENTS, "missing required field 'n'"),
        ("in_thread", {"n": None}, Reason.INVALID_ARGUMENTS, "Expected 'int'"),
        ("wrong_result", {}, Reason.INVALID_RESULT, "Expected 'int', got 'str'"),
        ("huge_result", {}, Reason.INVALID_RESULT, "the limit is 262144"),
    ],
)
async def test_what_cannot_be_used_is_discarded_at_once(yard: Any, kind: str, args: Any, code: str, said: str) -> None:
    await yard.work(app)
    job = await yard.end(id := await yard.submit(app, kind, **args))
    assert (job.state, job.reason, job.attempts) == (State.DISCARDED, code, 1)
    (error,) = await yard.errors(id)
    assert error.code == code
    assert said in error.message


@pytest.mark.parametrize("wait", [False, True])
async def test_context_variables_do_not_leak(yard: Any, wait: bool) -> None:
    await yard.work(app, slots=1)
    ids = [await yard.submit(app, "sets_flavour", wait=wait) for _ in range(3)]
    assert [await yard.result(id) for id in ids] == ["plain"] * 3


async def test_a_handler_is_a_task(yard: Any) -> None:
    await yard.work(app)
    ids = [await yard.submit(app, "is_a_task") for _ in range(8)]
    assert [await yard.result(id) for id in ids] == [[0, 1, 2]] * 8


async def test_a_handler_that_cancels_its_own_task_harms_nobody(yard: Any) -> None:
    await yard.work(app, slots=1)
    quick = await yard.submit(app, "cancels_itself", wait=False)
    slow = await yard.submit(app, "cancels_itself", wait=True)
    after = [await yard.submit(app, "wait_and_double", n=n) for n in range(3)]
    assert await yard.result(quick) == "unharmed"
    assert (await yard.end(slow)).state is State.DISCARDED
    assert (await yard.errors(slow))[0].type == "CancelledError"
    assert [await yard.result(id) for id in after] == [0, 2, 4]


async def test_only_free_slots_are_claimed_for(yard: Any) -> None:
    own = Callboard("own")
    go = asyncio.Event()

    @own.job
    async def hold() -> None:
        await go.wait()

    ids = [await yard.submit(own, "hold") for _ in range(5)]
    worker = await yard.work(own, slots=2)
    await yard.until(lambda: worker.stats()["running"] == 2)
    states = [(await yard.job(id)).state for id in ids]
    assert states.count(State.RUNNING) == 2
    assert states.count(State.AVAILABLE) == 3
    go.set()
    for id in ids:
        await yard.end(id)


async def test_many_waiting_handlers_run_at_once(yard: Any) -> None:
    own = Callboard("own")
    all_here = asyncio.Barrier(50)

    @own.job
    async def meet() -> None:
        await all_here.wait()

    ids = [await yard.submit(own, "meet") for _ in range(50)]
    await yard.work(own, slots=50)
    for id in ids:
        assert (await yard.end(id)).state is State.COMPLETED


async def test_short_jobs_have_slots_of_their_own(yard: Any) -> None:
    own = Callboard("own")
    go = asyncio.Event()

    @own.job
    async def long() -> None:
        await go.wait()

    @own.job(lane="short")
    async def short() -> None:
        pass

    longs = [await yard.submit(own, "long") for _ in range(6)]
    worker = await yard.work(own, slots=4)
    await yard.until(lambda: worker.stats()["running"] == 3)
    assert (await yard.end(await yard.submit(own, "short"))).state is State.COMPLETED
    assert worker.stats()["running"] == 3
    go.set()
    for id in longs:
        await yard.end(id)


async def test_unknown_kinds_and_versions_wait(yard: Any) -> None:
    await yard.work(app)
    newer = await yard.submit_to(yard.queue, app, "double", {"n": 1}, version=2)
    unknown = await yard.submit_to(yard.queue, app, "nobody_knows", {})
    assert await yard.result(await yard.submit(app, "double", n=1)) == 2
    assert [(await yard.job(id)).state for id in (newer, unknown)] == [State.AVAILABLE] * 2


async def test_handlers_submit_jobs(yard: Any) -> None:
    own = Callboard("own")

    @own.job
    async def child(n: int) -> int:
        return n

    @own.job
    async def parent() -> int:
        return int(await (await child.submit(n=5)).result(5))

    await yard.work(own)
    assert await yard.result(await yard.submit(own, "parent")) == 5
