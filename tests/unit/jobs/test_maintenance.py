"""Maintenance over a real queue: what is due, what is old, and the claims of the dead while the store comes and goes."""

import asyncio

import msgspec
import pytest

from callboard import errors
from callboard.jobs import engine, maintenance, model, states, submission
from callboard.jobs import queue as queues
from callboard.jobs.engines import memory
from callboard.kit import clock

NODE = b"n" * 16


@pytest.fixture
async def queue():
    made = queues.Queue(memory.open("memory:"), clock=clock.ManualClock())
    await made.start()
    yield made
    await made.stop()


async def submitted(queue, count=1, domain="main", **given):
    now = queue.clock.now()
    jobs = [submission.build(submission.Submission(kind="a.b", domain=domain, **given), {}, now) for _ in range(count)]
    await queue.submit(jobs)
    return jobs


def take(domain="main", limit=100):
    return engine.Take(domain, "default", model.Lane.LONG, (("a.b", (1,)),), limit)


async def claimed(queue, count=1):
    _, jobs = await queue.exchange([], NODE, [take(limit=count)], count)
    return jobs


async def finished(queue, count, domain="main"):
    await submitted(queue, count, domain)
    _, jobs = await queue.exchange([], NODE, [take(domain, count)], count)
    now = queue.clock.now()
    settles = [engine.Settle(job.domain, job.id, NODE, job.fence, states.succeeded(job, None, now).outcome) for job in jobs]
    await queue.exchange(settles, NODE, [], 0)
    return jobs


def kept(queue, **given):
    return maintenance.Maintenance(queue, **{"age_seconds": 86_400, "keep": 1000, **given})


async def total(queue, state, domain="main"):
    return sum(count.jobs for count in await queue.counts(domain) if count.state is state)


async def test_due_jobs_become_available_and_others_do_not(queue):
    await submitted(queue, 3, delay=10)
    await submitted(queue, 2, "other", delay=10)
    await submitted(queue, 1, delay=100)
    await kept(queue).round()
    assert await total(queue, model.State.SCHEDULED) == 4
    queue.clock.advance(11)
    heard = []
    queue.hints.listen(heard.append)
    await kept(queue).round()
    assert await total(queue, model.State.AVAILABLE) == 3
    assert await total(queue, model.State.AVAILABLE, "other") == 2
    assert await total(queue, model.State.SCHEDULED) == 1
    assert {pair for hint in heard for pair in hint.ready} == {("main", "default"), ("other", "default")}


async def test_old_jobs_go(queue):
    await finished(queue, 3)
    made = kept(queue)
    await made.round()
    queue.clock.advance(86_500)
    await finished(queue, 2)
    await made.round()
    assert await total(queue, model.State.COMPLETED) == 2


@pytest.mark.parametrize(("most", "kept_seconds"), [(7200, 7200), (60, model.SPARE_SECONDS), (1e9, 86_400), (None, 86_400)])
async def test_a_store_may_keep_less_than_was_set_but_never_less_than_it_must(queue, most, kept_seconds):
    queue.engine.abilities = msgspec.structs.replace(queue.engine.abilities, age_seconds=most)
    await finished(queue, 2)
    made = kept(queue)
    for passed, left in ((kept_seconds - 1, 2), (2, 0)):
        queue.clock.advance(passed)
        await finished(queue, 1, "other")
        await made.round()
        assert await total(queue, model.State.COMPLETED) == left
        queue.clock.advance(maintenance.AGE_LOOK_SECONDS)


async def test_too_many_jobs_go_the_longest_finished_first(queue):
    first = await finished(queue, 5)
    queue.clock.advance(1300)
    await finished(queue, 5)
    await kept(queue, keep=7).round()
    assert await total(queue, model.State.COMPLETED) == 7
    assert (await queue.get_many([job.key for job in first])).count(None) == 3


async def test_what_may_be_submitted_again_stays_whatever_the_number(queue):
    await finished(queue, 5)
    queue.clock.advance(1199)
    made = kept(queue, keep=0)
    await made.round()
    assert await total(queue, model.State.COMPLETED) == 5
    queue.clock.advance(2)
    await made.round()
    assert await total(queue, model.State.COMPLETED) == 0


async def test_domains_are_counted_apart(queue):
    await finished(queue, 4)
    await finished(queue, 2, "other")
    queue.clock.advance(1300)
    await kept(queue, keep=3).round()
    assert (await total(queue, model.State.COMPLETED), await total(queue, model.State.COMPLETED, "other")) == (3, 2)


async def test_a_round_says_that_there_is_more(queue, monkeypatch):
    monkeypatch.setattr(maintenance, "PURGED_AT_ONCE", 10)
    monkeypatch.setattr(maintenance, "PURGES_IN_A_ROUND", 2)
    await finished(queue, 50)
    queue.clock.advance(1300)
    made = kept(queue, keep=0)
    assert [await made.round() for _ in range(3)] == [True, True, False]
    assert await total(queue, model.State.COMPLETED) == 0


async def test_it_runs_by_itself_and_stops(queue):
    await submitted(queue, 1, delay=10)
    queue.clock.advance(11)
    made = kept(queue, period_seconds=0.01)
    await made.start()
    async with asyncio.timeout(5):
        while not await total(queue, model.State.AVAILABLE):
            await asyncio.sleep(0.001)
    await made.stop()
    await made.stop()


class Away(queues.Queue):
    """A queue whose store is away while `away`."""

    away = False

    async def expire(self, nodes, guards=()):
        if self.away:
            raise errors.StoreUnavailable("gone fishing")
        return await super().expire(nodes, guards)

    async def domains(self):
        if self.away:
            raise errors.StoreUnavailable("gone fishing")
        return await super().domains()


@pytest.fixture
async def away():
    made = Away(memory.open("memory:"), clock=clock.ManualClock())
    await made.start()
    yield made
    await made.stop()


async def test_the_claims_of_the_dead_end(queue):
    jobs = await submitted(queue, 3)
    await claimed(queue, 2)
    heard = []
    expiry = maintenance.Expiry(queue, lambda node, ended: heard.append((node, len(ended))))
    await expiry.start()
    expiry.dead(NODE)
    expiry.dead(b"m" * 16)
    async with asyncio.timeout(5):
        await expiry.settled()
    assert heard == [(NODE, 2), (b"m" * 16, 0)]
    assert {job.state for job in await queue.get_many([job.key for job in jobs])} == {model.State.AVAILABLE}
    await expiry.stop()


async def test_the_dead_wait_for_a_store_that_is_away(away):
    (job,) = await submitted(away)
    await claimed(away)
    expiry = maintenance.Expiry(away, lambda node, ended: None)
    await expiry.start()
    away.away = True
    expiry.dead(NODE)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await expiry.settled()
    assert (await away.get(*job.key)).state is model.State.RUNNING
    away.away = False
    async with asyncio.timeout(5):
        await expiry.settled()
    assert (await away.get(*job.key)).state is model.State.AVAILABLE
    await expiry.stop()


async def test_maintenance_goes_on_when_the_store_is_back(away):
    await submitted(away, 1, delay=10)
    away.clock.advance(11)
    away.away = True
    made = kept(away, period_seconds=0.01)
    await made.start()
    await asyncio.sleep(0)
    away.away = False
    async with asyncio.timeout(5):
        while not await total(away, model.State.AVAILABLE):
            await asyncio.sleep(0.001)
    await made.stop()
