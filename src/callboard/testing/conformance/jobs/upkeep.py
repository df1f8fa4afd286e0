"""Expire, Promote, Purge: what time and death do."""

from __future__ import annotations

from callboard.jobs import engine as seam
from callboard.jobs import model, states
from callboard.jobs.model import State
from callboard.testing.conformance.jobs.bench import (
    NODE,
    NOW,
    OTHER,
    SECOND,
    Bench,
    equal,
    job,
    promise,
    same_members,
    settle,
    take,
)

LATER = NOW + 5 * SECOND
EVER = NOW + 10 * 365 * 86_400 * SECOND


@promise
def the_claims_of_a_dead_node_are_ended(ground: Bench) -> None:
    """Available at once with a death counted and an error appended; other nodes' claims, and other jobs, stay."""
    lost, elsewhere, alive = ground.running(), ground.running(domain="acme"), ground.running(node=OTHER)
    done = ground.finished()
    expired = ground.one(seam.Expire((NODE, b"never-seen-node.", NODE), 100, LATER)).jobs
    same_members(expired, [states.settled(one, states.died(one, LATER)) for one in (lost, elsewhere)])
    for one in expired:
        equal(ground.read(one), one)
        equal((one.state, one.deaths, one.attempts, one.node), (State.AVAILABLE, 1, 0, None))
    equal(ground.engine.attempt_errors(*lost.key), [states.died(lost, LATER).error])
    equal((ground.read(alive), ground.read(done)), (alive, done))
    equal(ground.one(seam.Expire((NODE,), 100, LATER)), seam.Expired([]))
    equal(ground.engine.claimants(), [(OTHER, 0)])


@promise
def a_dead_node_s_renewal_is_forgotten(ground: Bench) -> None:
    """Once nothing of it is left to expire: fewer than the limit were."""
    ground.put(*(job() for _ in range(2)))
    ground.claim()
    ground.one(seam.Renew(NODE, (), NOW))
    ground.one(seam.Expire((NODE,), 1, LATER))
    equal(ground.engine.claimants(), [(NODE, NOW)])
    ground.one(seam.Expire((NODE,), 2, LATER))
    ground.claim()
    equal(ground.engine.claimants(), [(NODE, 0)])


@promise
def the_third_death_discards(ground: Bench) -> None:
    """Twice the job comes back, the third time it is given up as `worker_lost`; a retry counts deaths from zero."""
    claimed = ground.running()
    ended = [State.AVAILABLE, State.AVAILABLE, State.DISCARDED]
    for number, state in enumerate(ended, 1):
        (expired,) = ground.one(seam.Expire((NODE,), 100, LATER)).jobs
        equal((expired.state, expired.deaths), (state, number))
        equal(ground.read(claimed), expired)
        if state == State.AVAILABLE:
            ground.claim()
    equal((expired.reason, expired.finished_at), (model.Reason.WORKER_LOST, LATER))
    equal(len(ground.engine.attempt_errors(*claimed.key)), 3)
    ground.one(seam.Retry("main", claimed.id, LATER))
    equal(ground.read(claimed).deaths, 0)


@promise
def a_wish_is_granted_by_death(ground: Bench) -> None:
    """A job that somebody asked to cancel does not run again when its node dies."""
    claimed = ground.running()
    ground.one(seam.Cancel("main", claimed.id, NOW))
    (expired,) = ground.one(seam.Expire((NODE,), 100, LATER)).jobs
    equal((expired.state, expired.reason, expired.cancel_requested), (State.CANCELLED, model.Reason.CANCELLED, False))
    equal(ground.read(claimed), expired)
    equal(ground.claim(), [])


@promise
def no_more_is_expired_than_asked(ground: Bench) -> None:
    """Up to the limit a call, until nothing is left; each claim once."""
    ground.put(*(job() for _ in range(5)))
    ground.claim(limit=3)
    ground.claim(limit=2, node=OTHER)
    nodes = (NODE, OTHER, NODE)
    equal(ground.one(seam.Expire(nodes, 0, LATER)), seam.Expired([]))
    numbers = [len(ground.one(seam.Expire(nodes, 2, LATER)).jobs) for _ in range(4)]
    equal(numbers, [2, 2, 1, 0])
    equal(ground.one(seam.Expire((), 2, LATER)), seam.Expired([]))
    equal({one.deaths for one in ground.claim()}, {1})


@promise
def due_jobs_are_promoted(ground: Bench) -> None:
    """Scheduled and retryable ones whose time has come, this very microsecond too; their run_at stays."""
    due, later = job(delay=1), job(delay=1.000001)
    ground.put(due, later)
    failing = ground.running()
    ground.one(settle(failing, states.postponed(failing, SECOND, NOW)))
    moment = seam.Promote((("main", "default"),), 100, NOW + SECOND)
    equal(ground.one(moment), seam.Promoted(2))
    for one in (due, states.settled(failing, states.postponed(failing, SECOND, NOW))):
        equal(ground.read(one), states.promoted(one, NOW + SECOND))
    equal(ground.read(later), later)
    equal(ground.one(moment), seam.Promoted(0))
    equal(ground.count(), {"available": 2, "scheduled": 1})


@promise
def the_longest_due_are_promoted_first(ground: Bench) -> None:
    """Up to the limit, across the queues named, whatever the order in which they were stored."""
    delays = [5, 1, 4, 2, 6, 3]
    jobs = {delay: job(delay=delay, queue=f"q{delay % 2}", kind=f"app.k{delay % 3}") for delay in delays}
    ground.put(*jobs.values())
    queues = (("main", "q0"), ("main", "q1"), ("main", "q0"))
    equal(ground.one(seam.Promote(queues, 0, EVER)), seam.Promoted(0))
    for _ in range(2):
        equal(ground.one(seam.Promote(queues, 2, EVER)), seam.Promoted(2))
    equal([delay for delay in sorted(jobs) if ground.read(jobs[delay]).state == State.AVAILABLE], [1, 2, 3, 4])
    equal(ground.one(seam.Promote(queues, 100, EVER)), seam.Promoted(2))


@promise
def only_the_queues_named_are_promoted(ground: Bench) -> None:
    """(domain, queue) pairs, no more; unknown ones are no error."""
    here, queue, domain = job(delay=1), job(delay=1, queue="other"), job(delay=1, domain="acme")
    ground.put(here, queue, domain)
    equal(ground.one(seam.Promote((("main", "default"), ("no", "where")), 100, EVER)), seam.Promoted(1))
    equal(ground.engine.states([here.key, queue.key, domain.key]), [(State.AVAILABLE, 1), *[(State.SCHEDULED, 1)] * 2])
    equal(ground.one(seam.Promote((), 100, EVER)), seam.Promoted(0))


@promise
def promoted_jobs_are_claimed_by_run_at(ground: Bench) -> None:
    """Promotion makes them ready in their own time's order, before what was submitted after that."""
    late, early = job(delay=2), job(delay=1)
    fresh = job(now=LATER)
    ground.put(late, early)
    ground.put(fresh, now=LATER)
    ground.one(seam.Promote((("main", "default"),), 100, LATER))
    equal([one.id for one in ground.claim(now=LATER)], [early.id, late.id, fresh.id])


@promise
def old_finished_jobs_are_purged(ground: Bench) -> None:
    """Those finished before `before`, of any end, with their tags and errors; nothing else."""
    old, edge = ground.finished(NOW, tags=("blue",)), ground.finished(NOW + 2)
    failing = ground.running(max_attempts=1, tags=("blue",))
    ground.one(settle(failing, states.failed(failing, NOW + 1)))
    foreign, running = ground.finished(NOW, domain="acme"), ground.running()
    waiting = job(tags=("blue",))
    ground.put(waiting)
    purge = seam.Purge("main", NOW + 2, 1_000, NOW + 2, 100)
    equal(ground.one(purge), seam.Purged(2))
    ground.absent(old)
    ground.absent(failing)
    equal(ground.engine.attempt_errors(*failing.key), [])
    equal(ground.all(seam.Filter(domain="main", tag="blue")), [waiting])
    equal([ground.read(one) for one in (edge, foreign, running, waiting)], [edge, foreign, running, waiting])
    equal(ground.count(), {"completed": 1, "running": 1, "available": 1})
    equal(ground.one(purge), seam.Purged(0))
    equal(ground.one(seam.Purge("nowhere", EVER, 0, EVER, 100)), seam.Purged(0))


@promise
def more_than_enough_finished_jobs_are_purged(ground: Bench) -> None:
    """Beyond `keep` the longest finished go, but none that finished since `spare`; other domains do not count."""
    done = [ground.finished(NOW + i) for i in range(6)]
    ground.finished(NOW, domain="acme")
    ground.put(job())
    equal(ground.one(seam.Purge("main", 0, 6, EVER, 100)), seam.Purged(0))
    equal(ground.one(seam.Purge("main", 0, 4, NOW + 1, 100)), seam.Purged(1))
    equal(ground.one(seam.Purge("main", 0, 4, EVER, 100)), seam.Purged(1))
    equal(ground.one(seam.Purge("main", 0, 0, NOW + 4, 100)), seam.Purged(2))
    equal(ground.engine.get([one.key for one in done]), [None] * 4 + done[4:])
    equal(ground.count("acme"), {"completed": 1})


@promise
def a_purge_is_bounded(ground: Bench) -> None:
    """At most `limit`, the longest finished first, whatever the order of their submission."""
    claimed = [ground.running() for _ in range(5)]
    for at, one in zip((4, 2, 0, 3, 1), claimed, strict=True):
        ground.one(settle(one, states.succeeded(one, None, NOW + at)))
    equal(ground.one(seam.Purge("main", EVER, 0, EVER, 0)), seam.Purged(0))
    equal(ground.one(seam.Purge("main", EVER, 5, EVER, 2)), seam.Purged(2))
    kept = [one.id for one, job in zip(claimed, ground.engine.get([one.key for one in claimed]), strict=True) if job]
    equal(kept, [claimed[i].id for i in (0, 1, 3)])
    equal(ground.one(seam.Purge("main", 0, 0, EVER, 2)), seam.Purged(2))


@promise
def what_was_purged_leaves_no_trace(ground: Bench) -> None:
    """A job of the same id, stored anew, has no errors and no tags of the former one, and its own content."""
    failing = ground.running(max_attempts=1, tags=("blue",))
    ground.one(settle(failing, states.failed(failing, NOW)))
    ground.one(seam.Purge("main", EVER, 0, EVER, 10))
    again = job(id=failing.id, digest=b"e" * 16, tags=("red",))
    ground.put(again)
    equal(ground.engine.attempt_errors(*again.key), [])
    equal(ground.all(seam.Filter(domain="main", tag="blue")), [])
    equal(ground.claim(take()), [states.claimed(again, NODE, NOW)])
