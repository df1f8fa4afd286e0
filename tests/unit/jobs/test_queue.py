"""What a queue does around its engine when jobs are put: whose they are, who is told, and what a full store answers."""

from __future__ import annotations

import pytest

from callboard.jobs import engine as seam
from callboard.jobs import hints, model, states, submission
from callboard.jobs import queue as queues
from callboard.jobs.engines import memory
from callboard.kit import clock
from tests.unit import limited

NODE = b"n" * 16
TAKE = seam.Take("main", "default", model.Lane.LONG, (("a.b", (1,)),), 100)


@pytest.fixture
def engine():
    return memory.open("memory:")


@pytest.fixture
async def queue(engine):
    made = queues.Queue(engine, clock=clock.ManualClock())
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def heard(queue):
    found: list[hints.Hint] = []
    queue.hints.listen(found.append)
    return found


def new(on, **given):
    return submission.build(submission.Submission(kind="a.b", **given), {}, on.clock.now())


def claimed(on, **given):
    return states.claimed(new(on, **given), NODE, on.clock.now())


async def test_a_job_submitted_claimed_is_its_nodes_and_nobody_is_told(queue, heard):
    job = claimed(queue)
    assert await queue.submit_claimed([(job, queue.clock.now())]) == [seam.Created()]
    assert heard == []
    assert not await queue.ready([TAKE])
    assert await queue.claimants() == [(NODE, 0)]
    settle = seam.Settle("main", job.id, NODE, 1, states.succeeded(job, None, queue.clock.now()).outcome)
    assert await queue.exchange([settle], NODE, [], 0) == ([seam.Settled(model.State.COMPLETED)], [])


async def test_those_beside_it_that_are_not_claimed_are_told_of(queue, heard):
    puts = [(claimed(queue), queue.clock.now()), (new(queue, queue="other"), queue.clock.now())]
    assert await queue.submit_claimed(puts) == [seam.Created()] * 2
    assert heard == [hints.Hint(ready=(("main", "other"),))]


async def test_each_is_put_by_its_own_time(queue):
    waited, late = claimed(queue), claimed(queue)
    sent = queue.clock.now()
    queue.clock.advance(model.IDEMPOTENCY_SECONDS * 100)
    now = queue.clock.now()
    assert await queue.submit_claimed([(waited, sent), (late, now)]) == [seam.Created(), seam.Stale()]
    assert await queue.submit_claimed([(waited, now)]) == [seam.Same(model.State.RUNNING)]


async def test_claims_of_a_node_that_died_at_once_are_told_of(queue, heard):
    await queue.submit_claimed([(claimed(queue), queue.clock.now())])
    (ended,) = await queue.expire([NODE])
    assert (ended.state, ended.deaths) == (model.State.AVAILABLE, 1)
    assert heard == [hints.Hint(ready=(("main", "default"),))]


class TestFull:
    @pytest.fixture
    def engine(self):
        return limited.Limited(memory.open("memory:"), 2)

    async def test_each_is_answered_for_itself(self, queue, heard):
        jobs = [new(queue) for _ in range(4)]
        assert await queue.submit(jobs) == [seam.Created()] * 2 + [seam.Full(2)] * 2
        assert await queue.submit_claimed([(claimed(queue), queue.clock.now())]) == [seam.Full(2)]
        error = submission.refused(jobs[2], seam.Full(2), index=2)
        assert (error.code, error.retryable, error.data) == ("store_full", True, {"limit": 2, "index": 2})
        assert len(heard) == 1
