"""Terms: a number that grows at every taking, and what is written under an old one."""

import asyncio

import msgspec
import pytest

from callboard import errors
from callboard.jobs import engine, maintenance, model, submission, terms
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


def holder(incarnation="a"):
    return terms.Holder(incarnation=incarnation, epoch=3, at=1)


async def running(queue):
    now = queue.clock.now()
    job = submission.build(submission.Submission(kind="a.b"), {}, now)
    await queue.submit([job])
    take = engine.Take("main", "default", model.Lane.LONG, (("a.b", (1,)),), 1)
    await queue.exchange([], NODE, [take], 1)
    return job


async def test_a_term_grows_with_every_taking_and_tells_who_holds_it(queue):
    first = await terms.take(queue, "main", holder("a"))
    second = await terms.take(queue, "main", holder("b"))
    other = await terms.take(queue, "north", holder("a"))
    assert (first.number, second.number, other.number) == (1, 2, 1)
    document = await queue.document(".", terms.path("main"))
    assert msgspec.json.decode(document.body, type=terms.Holder).incarnation == "b"


async def test_takers_at_the_same_time_get_different_terms(queue):
    taken = await asyncio.gather(*(terms.take(queue, "main", holder(str(number))) for number in range(8)))
    assert sorted(each.number for each in taken) == list(range(1, 9))


async def test_nothing_is_expired_under_an_old_term(queue):
    job = await running(queue)
    old = await terms.take(queue, "main", holder("a"))
    new = await terms.take(queue, "main", holder("b"))
    with pytest.raises(errors.DocumentConflict, match="terms/main is at version 2, not 1"):
        await queue.expire([NODE], old.guards)
    assert (await queue.get("main", job.id)).state is model.State.RUNNING
    assert [each.id for each in await queue.expire([NODE], new.guards)] == [job.id]


async def test_maintenance_under_an_old_term_writes_nothing_and_says_so_once(queue):
    told = []
    await queue.submit([submission.build(submission.Submission(kind="a.b", delay=10), {}, queue.clock.now())])
    old = await terms.take(queue, "main", holder("a"))
    await terms.take(queue, "main", holder("b"))
    queue.clock.advance(11)
    made = maintenance.Maintenance(
        queue, age_seconds=86_400, keep=10, guards=old.guards, superseded=lambda: told.append(1), period_seconds=0.001
    )
    await made.start()
    async with asyncio.timeout(5):
        while not told:
            await asyncio.sleep(0.001)
    await made.stop()
    (count,) = await queue.counts("main")
    assert (told, count.state) == ([1], model.State.SCHEDULED)


async def test_maintenance_keeps_to_its_domains(queue):
    for domain in ("main", "other"):
        given = submission.Submission(kind="a.b", domain=domain, delay=10)
        await queue.submit([submission.build(given, {}, queue.clock.now())])
    queue.clock.advance(11)
    await maintenance.Maintenance(queue, age_seconds=86_400, keep=10, serves=lambda domain: domain == "other").round()
    states = {domain: (await queue.counts(domain))[0].state for domain in ("main", "other")}
    assert states == {"main": model.State.SCHEDULED, "other": model.State.AVAILABLE}
