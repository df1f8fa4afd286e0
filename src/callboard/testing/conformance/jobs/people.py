"""Cancel and Retry: what people ask of a job."""

from __future__ import annotations

from callboard.jobs import engine as seam
from callboard.jobs import states
from callboard.jobs.model import State
from callboard.testing.conformance.jobs.bench import NODE, NOW, SECOND, Bench, equal, job, promise, settle

LATER = NOW + 5 * SECOND
EVER = NOW + 10 * 365 * 86_400 * SECOND
QUEUES = (("main", "default"),)


@promise
def a_waiting_job_is_cancelled_at_once(ground: Bench) -> None:
    """Scheduled, available or retryable: CANCELLED, and never claimed or promoted again."""
    failing = ground.running()
    ground.one(settle(failing, states.failed(failing, NOW)))
    scheduled, available = job(delay=1), job()
    ground.put(scheduled, available)
    for waiting in (ground.read(failing), scheduled, available):
        equal(ground.one(seam.Cancel("main", waiting.id, LATER)), seam.Became(State.CANCELLED, None))
        equal(ground.read(waiting), states.cancelled(waiting, LATER))
    equal(ground.one(seam.Promote(QUEUES, 10, EVER)), seam.Promoted(0))
    equal(ground.claim(now=EVER), [])
    equal(ground.count(), {"cancelled": 3})


@promise
def a_running_job_carries_the_wish(ground: Bench) -> None:
    """RUNNING, and who runs it; asked twice is the same. The claim goes on."""
    claimed = ground.running()
    for _ in range(2):
        equal(ground.one(seam.Cancel("main", claimed.id, LATER)), seam.Became(State.RUNNING, NODE))
        equal(ground.read(claimed), states.cancelled(claimed, LATER))
    renewed = ground.one(seam.Renew(NODE, ((*claimed.key, 1, None),), LATER))
    equal(renewed, seam.Renewed((), ((*claimed.key, 1),)))


@promise
def a_finished_job_is_not_cancelled(ground: Bench) -> None:
    """Refused with its state; state None for a job that is not there, in this domain."""
    done = ground.finished()
    equal(ground.refused(seam.Cancel("main", done.id, LATER)), seam.Refused(0, seam.NotAllowed(State.COMPLETED)))
    equal(ground.refused(seam.Cancel("acme", done.id, LATER)), seam.Refused(0, seam.NotAllowed(None)))
    gone = job()
    ground.put(gone)
    ground.one(seam.Cancel("main", gone.id, NOW))
    equal(ground.refused(seam.Cancel("main", gone.id, LATER)), seam.Refused(0, seam.NotAllowed(State.CANCELLED)))
    equal((ground.read(done), ground.read(gone).finished_at), (done, NOW))


@promise
def a_finished_job_is_retried(ground: Bench) -> None:
    """Completed, discarded or cancelled: a new run, available now, counted from zero, its errors kept."""
    completed, failing, dropped = ground.finished(), ground.running(max_attempts=1), ground.running()
    ground.one(settle(failing, states.failed(failing, NOW)))
    ground.one(seam.Cancel("main", dropped.id, NOW))
    ground.one(settle(dropped, states.stopped(dropped, NOW)))
    for done in (completed, ground.read(failing), ground.read(dropped)):
        equal(ground.refused(seam.Retry("main", done.id, LATER, done.run + 1)), seam.Refused(0, seam.NotAllowed(done.state)))
        equal(ground.one(seam.Retry("main", done.id, LATER, done.run)), seam.Became(State.AVAILABLE, None))
        equal(ground.read(done), states.retried(done, LATER))
    equal(len(ground.engine.attempt_errors(*failing.key)), 1)
    equal(ground.count(), {"available": 3})
    equal([(one.run, one.fence, one.started_at) for one in ground.claim(now=LATER)], [(2, 2, LATER)] * 3)


@promise
def only_a_finished_job_is_retried(ground: Bench) -> None:
    """Refused with the state for every other, None for one that is not there."""
    running = ground.running()
    failing = ground.running()
    ground.one(settle(failing, states.failed(failing, NOW)))
    available, scheduled = job(), job(delay=1)
    ground.put(available, scheduled)
    before = ground.everything()
    for one in (running, failing, available, scheduled):
        equal(ground.refused(seam.Retry("main", one.id, LATER)), seam.Refused(0, seam.NotAllowed(ground.read(one).state)))
    equal(ground.refused(seam.Retry("main", job().id, LATER)), seam.Refused(0, seam.NotAllowed(None)))
    equal(ground.everything(), before)


@promise
def a_retried_job_goes_behind_what_waits(ground: Bench) -> None:
    """It is ready since the retry, not since its first submission."""
    old = ground.finished()
    waiting = job()
    ground.put(waiting)
    ground.one(seam.Retry("main", old.id, LATER))
    equal([one.id for one in ground.claim(now=LATER)], [waiting.id, old.id])
