"""Settle, Release, Renew: what the owner of a claim may do, and that nobody else may."""

from __future__ import annotations

import msgspec

from callboard.jobs import engine as seam
from callboard.jobs import model, states
from callboard.jobs.model import Progress, State
from callboard.testing.conformance.jobs.bench import (
    NODE,
    NOW,
    OTHER,
    SECOND,
    Bench,
    equal,
    job,
    promise,
    release,
    same_members,
    settle,
)

LATER = NOW + 5 * SECOND


@promise
def a_settle_writes_its_outcome(ground: Bench) -> None:
    """Success: the outcome's fields, no owner, everything else as it was."""
    claimed = ground.running(tags=("blue",))
    ended = states.succeeded(claimed, b"\xa4done", LATER)
    equal(ground.one(settle(claimed, ended)), seam.Settled(State.COMPLETED))
    equal(ground.read(claimed), states.settled(claimed, ended))
    equal(ground.engine.attempt_errors(*claimed.key), [])
    equal(ground.engine.claimants(), [])


@promise
def a_failed_attempt_waits_for_its_next(ground: Bench) -> None:
    """Failure: RETRYABLE at the outcome's run_at, the error appended as given."""
    claimed = ground.running()
    ended = states.failed(claimed, LATER, type="ValueError", message="a 'quoted'\nü\x00", traceback="t" * 8192)
    equal(ground.one(settle(claimed, ended)), seam.Settled(State.RETRYABLE))
    equal(ground.read(claimed), states.settled(claimed, ended))
    equal(ground.engine.attempt_errors(*claimed.key), [ended.error])


@promise
def the_last_failure_discards(ground: Bench) -> None:
    """A terminal failure keeps its reason, its error and its time."""
    claimed = ground.running(max_attempts=1)
    ended = states.failed(claimed, LATER, code=model.Reason.TIMEOUT)
    equal(ground.one(settle(claimed, ended)), seam.Settled(State.DISCARDED))
    stored = ground.read(claimed)
    equal(stored, states.settled(claimed, ended))
    equal((stored.reason, stored.finished_at), (model.Reason.ATTEMPTS_EXHAUSTED, LATER))
    equal([error.code for error in ground.engine.attempt_errors(*claimed.key)], [model.Reason.TIMEOUT])


@promise
def only_the_owner_settles(ground: Bench) -> None:
    """Another node, another fence, or a job that never was: Lost says who owns it; nothing changes, no error is appended."""
    claimed = ground.running()
    ended = states.failed(claimed, LATER, message="not mine")
    lost = seam.Refused(0, seam.Lost(State.RUNNING, 1, NODE))
    for wrong in ({"node": OTHER}, {"fence": 0}, {"fence": 2}):
        equal(ground.refused(settle(claimed, ended, **wrong)), lost)
    elsewhere = msgspec.structs.replace(claimed, domain="acme")
    equal(ground.refused(settle(elsewhere, ended)), seam.Refused(0, seam.Lost(None, 0, None)))
    equal(ground.refused(settle(job(), ended)), seam.Refused(0, seam.Lost(None, 0, None)))
    equal(ground.read(claimed), claimed)
    equal(ground.engine.attempt_errors(*claimed.key), [])


@promise
def a_claim_is_settled_once(ground: Bench) -> None:
    """The same end again is lost, also in one batch, and so is any end of a job that does not run."""
    claimed = ground.running()
    end = settle(claimed, states.succeeded(claimed, b"\x01", NOW))
    lost = seam.Refused(0, seam.Lost(State.COMPLETED, 1, None))
    equal(ground.batch([(end,), (end,)]), [[seam.Settled(State.COMPLETED)], lost])
    equal(ground.refused(settle(claimed, states.failed(claimed, LATER))), lost)
    equal(ground.refused(release(claimed)), lost)
    equal(ground.read(claimed).result, b"\x01")


@promise
def a_lost_claim_stays_lost(ground: Bench) -> None:
    """After its node was taken for dead, the first owner changes nothing: not before the next claim, not after it."""
    frozen = ground.running()
    ground.one(seam.Expire((NODE,), 10, NOW))
    stale = (settle(frozen, states.succeeded(frozen, b"\x01", LATER), node=NODE), release(frozen, LATER, node=NODE))
    for op in stale:
        equal(ground.refused(op), seam.Refused(0, seam.Lost(State.AVAILABLE, 1, None)))
    (again,) = ground.claim(node=OTHER)
    for op in stale:
        equal(ground.refused(op), seam.Refused(0, seam.Lost(State.RUNNING, 2, OTHER)))
    claim = (*frozen.key, frozen.fence, Progress(9, 9))
    equal(ground.one(seam.Renew(NODE, (claim,), LATER)), seam.Renewed((claim[:3],), ()))
    equal(ground.read(frozen), again)


@promise
def a_node_that_claims_again_needs_its_new_fence(ground: Bench) -> None:
    """The same node, an older claim: the fence alone decides."""
    first = ground.running()
    ground.one(release(first))
    (second,) = ground.claim()
    equal(ground.refused(settle(first, states.succeeded(first, None, NOW))).result, seam.Lost(State.RUNNING, 2, NODE))
    equal(ground.one(settle(second, states.succeeded(second, None, NOW))), seam.Settled(State.COMPLETED))


@promise
def a_wish_to_cancel_decides_between_outcomes(ground: Bench) -> None:
    """After a wish: success completes, a failure is cancelled (its error kept), and the wish is gone with it."""
    for end, state in ((states.succeeded, State.COMPLETED), (lambda job, _, now: states.failed(job, now), State.CANCELLED)):
        claimed = ground.running()
        ground.one(seam.Cancel("main", claimed.id, NOW))
        wished = ground.read(claimed)
        equal(wished, msgspec.structs.replace(claimed, cancel_requested=True))
        ended = end(claimed, b"\x01", LATER)
        equal(ground.one(settle(claimed, ended)), seam.Settled(state))
        equal(ground.read(claimed), states.settled(wished, ended))
        equal(ground.engine.attempt_errors(*claimed.key), [ended.error] if ended.error else [])


@promise
def a_batch_of_ends_is_decided_one_by_one(ground: Bench) -> None:
    """Successes with and without a result, failures, handed back: each as if it were alone, wishes considered."""
    ground.put(*(job(args=bytes([i]), max_attempts=1 + i % 2) for i in range(60)))
    claimed = ground.claim()
    for one in claimed[::7]:
        ground.one(seam.Cancel("main", one.id, NOW))
    results = (None, b"", b"\x01" * 20_000)

    def succeeded(one: model.Job, now: int) -> states.Ended:
        return states.succeeded(one, results[one.fence], now)

    ends = [states.died, states.failed, states.released, *[succeeded] * 4]
    wished = ground.engine.get([one.key for one in claimed])
    decided = [ends[i * 5 % 7](msgspec.structs.replace(one, fence=i % 3), LATER) for i, one in enumerate(claimed)]
    decided = [msgspec.structs.replace(ended, error=None) for ended in decided]
    wanted = [states.settled(one, ended) for one, ended in zip(wished, decided, strict=True) if one is not None]
    units = [(settle(one, ended),) for one, ended in zip(claimed, decided, strict=True)]
    equal(ground.batch(units), [[seam.Settled(one.state)] for one in wanted])
    equal(ground.engine.get([one.key for one in claimed]), wanted)


@promise
def a_release_hands_the_job_back(ground: Bench) -> None:
    """AVAILABLE at once, nothing counted; cancelled if that was wished."""
    handed, unwanted = ground.running(), ground.running()
    equal(ground.one(release(handed, LATER)), seam.Settled(State.AVAILABLE))
    equal(ground.read(handed), states.settled(handed, states.released(handed, LATER)))
    ground.one(seam.Cancel("main", unwanted.id, NOW))
    equal(ground.one(release(unwanted, LATER)), seam.Settled(State.CANCELLED))
    stored = ground.read(unwanted)
    equal((stored.state, stored.finished_at, stored.attempts, stored.cancel_requested), (State.CANCELLED, LATER, 0, False))
    equal([one.id for one in ground.claim()], [handed.id])


@promise
def only_the_owner_releases(ground: Bench) -> None:
    """Guard and answers as Settle's."""
    claimed = ground.running()
    equal(ground.refused(release(claimed, node=OTHER)), seam.Refused(0, seam.Lost(State.RUNNING, 1, NODE)))
    older = msgspec.structs.replace(claimed, fence=0)
    equal(ground.refused(release(older)), seam.Refused(0, seam.Lost(State.RUNNING, 1, NODE)))
    equal(ground.refused(release(job())), seam.Refused(0, seam.Lost(None, 0, None)))
    equal(ground.read(claimed), claimed)


@promise
def progress_ends_with_the_attempt(ground: Bench) -> None:
    """It is kept when the job is finished, and cleared when it will run again."""
    for end, kept in ((states.succeeded, True), (lambda job, _, now: states.failed(job, now), False)):
        claimed = ground.running()
        ground.one(seam.Renew(NODE, ((*claimed.key, claimed.fence, Progress(3, 4, "ü")),), NOW))
        ground.one(settle(claimed, end(claimed, None, LATER)))
        equal(ground.read(claimed).progress, Progress(3, 4, "ü") if kept else None)


@promise
def errors_are_appended_by_run_and_fence(ground: Bench) -> None:
    """Every attempt's and death's error stays, in order, through retries by a person; each job has its own."""
    claimed, wanted = ground.running(max_attempts=2), []
    strange = ground.running(max_attempts=1)
    ground.one(settle(strange, states.failed(strange, NOW, message="another")))
    for end in (states.failed, states.died, states.failed, states.failed):
        ended = end(claimed, LATER)
        wanted.append(ended.error)
        ground.one(settle(claimed, ended) if end is states.failed else seam.Expire((NODE,), 1, LATER))
        if ground.read(claimed).finished:
            ground.one(seam.Retry("main", claimed.id, LATER))
        ground.one(seam.Promote((("main", "default"),), 10, LATER * 2))
        (claimed,) = ground.claim()
    equal([(error.run, error.fence, error.attempt) for error in wanted if error], [(1, 1, 1), (1, 2, 2), (1, 3, 2), (2, 4, 1)])
    equal(ground.engine.attempt_errors(*claimed.key), wanted)
    equal(len(ground.engine.attempt_errors(*strange.key)), 1)


@promise
def a_renewal_tells_what_was_lost_and_wished(ground: Bench) -> None:
    """Held claims take their progress, wishes and losses are told, and nothing of others is touched."""
    quiet, wished, lost, foreign = ground.running(), ground.running(), ground.running(), ground.running(node=OTHER)
    ground.one(seam.Cancel("main", wished.id, NOW))
    ground.one(settle(lost, states.succeeded(lost, None, NOW)))
    claims = tuple((*one.key, one.fence, Progress(i)) for i, one in enumerate((quiet, wished, lost, foreign)))
    unknown = ("main", job().id, 1, None)
    old = ("main", quiet.id, 0, Progress(7))
    (renewed,) = ground.unit(seam.Renew(NODE, (*claims, unknown, old), LATER))
    same_members(renewed.lost, [claims[2][:3], claims[3][:3], unknown[:3], old[:3]])
    equal(renewed.cancel_requested, (claims[1][:3],))
    equal([ground.read(one).progress for one in (quiet, wished, lost, foreign)], [Progress(0), Progress(1), None, None])


@promise
def a_renewal_without_news_keeps_the_progress(ground: Bench) -> None:
    """None says nothing of the progress; numbers come back as they were given."""
    claimed = ground.running()
    ground.one(seam.Renew(NODE, ((*claimed.key, 1, Progress(0.5, 1e12, "halb")),), NOW))
    equal(ground.one(seam.Renew(NODE, ((*claimed.key, 1, None),), LATER)), seam.Renewed((), ()))
    equal(ground.read(claimed), msgspec.structs.replace(claimed, progress=Progress(0.5, 1e12, "halb")))


@promise
def claimants_are_the_nodes_that_run_something(ground: Bench) -> None:
    """With their last renewal, 0 without one; gone with their last claim. Renewing claims nothing."""
    ground.one(seam.Renew(b"x" * 16, (), NOW))
    equal(ground.engine.claimants(), [])
    mine, second, other = ground.running(), ground.running(), ground.running(node=OTHER)
    same_members(ground.engine.claimants(), [(NODE, 0), (OTHER, 0)])
    ground.one(seam.Renew(NODE, ((*mine.key, 1, None),), NOW))
    ground.one(seam.Renew(NODE, (), LATER))
    same_members(ground.engine.claimants(), [(NODE, LATER), (OTHER, 0)])
    ground.unit(release(mine), release(other))
    equal(ground.engine.claimants(), [(NODE, LATER)])
    ground.one(settle(second, states.succeeded(second, None, NOW)))
    equal(ground.engine.claimants(), [])
