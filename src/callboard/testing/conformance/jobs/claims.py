"""Claim: who gets what, in which order, and that nobody gets it twice."""

from __future__ import annotations

import msgspec

from callboard.jobs import engine as seam
from callboard.jobs import model, states
from callboard.testing.conformance.jobs.bench import NODE, NOW, OTHER, SECOND, Bench, equal, job, promise, release, settle, take


@promise
def a_claim_writes_what_it_says(ground: Bench) -> None:
    """RUNNING, fence + 1, owned by the node, started now; what is answered is what is stored, everything else as it was."""
    made = job(args=b"\x81\xa1a\x01", tags=("blue", "red"), meta={"a": "b"}, timeout=SECOND, version=2)
    ground.put(made)
    later = NOW + SECOND
    (claimed,) = ground.claim(take(versions=(1, 2)), now=later)
    equal(claimed, states.claimed(made, NODE, later))
    equal(ground.read(made), claimed)


@promise
def the_lowest_priority_number_and_run_at_come_first(ground: Bench) -> None:
    """Within a take: (priority, run_at), across its kinds."""
    order = [(0, 5), (0, 9), (4, 1), (5, 0), (5, 3), (9, 0)]
    jobs = [job(priority=priority, now=NOW + at, kind=f"app.k{at % 2}") for priority, at in order]
    ground.put(*(jobs[i] for i in (3, 0, 5, 2, 4, 1)), now=NOW + 9)
    claimed = ground.claim(take("app.k0", "app.k1"), now=NOW + 9)
    equal([(one.priority, one.run_at - NOW) for one in claimed], order)


@promise
def the_oldest_in_the_store_comes_first_among_equals(ground: Bench) -> None:
    """Equal in priority and run_at: in the order in which they were stored, whatever their ids, kinds and versions."""
    jobs = [job(kind=f"app.k{i % 3}", version=1 + i % 2) for i in range(12)]
    ground.put(*reversed(jobs))
    claimed = ground.claim(take("app.k0", "app.k1", "app.k2", versions=(1, 2)), limit=7)
    equal([one.id for one in claimed], [one.id for one in jobs[:4:-1]])


@promise
def takes_are_served_in_their_order(ground: Bench) -> None:
    """The first take goes first, even when the second has more urgent jobs; claimed jobs come in that order."""
    urgent, lazy = [job(priority=0) for _ in range(2)], [job(priority=9, queue="lazy") for _ in range(2)]
    ground.put(*urgent, *lazy)
    claimed = ground.claim(take(queue="lazy"), take(), limit=3)
    equal([one.id for one in claimed], [lazy[0].id, lazy[1].id, urgent[0].id])


@promise
def limits_hold(ground: Bench) -> None:
    """Each take has its limit, all together have one; zero takes nothing."""
    ground.put(*(job() for _ in range(6)), *(job(queue="b") for _ in range(6)))
    equal(len(ground.claim(take(limit=0))), 0)
    equal(len(ground.claim(take(), limit=0)), 0)
    equal([one.queue for one in ground.claim(take(limit=2), take(queue="b", limit=2))], ["default"] * 2 + ["b"] * 2)
    equal([one.queue for one in ground.claim(take(limit=2), take(queue="b", limit=9), limit=3)], ["default"] * 2 + ["b"])
    equal(ground.count(), {"running": 7, "available": 5})


@promise
def a_job_named_by_two_takes_is_claimed_once(ground: Bench) -> None:
    """Takes may overlap, and name a kind or version twice."""
    ground.put(*(job() for _ in range(5)))
    claimed = ground.claim(take(limit=2), take("app.work", "app.work", versions=(1, 1)))
    equal(len({one.id for one in claimed}), 5)
    equal(len(claimed), 5)
    equal({one.fence for one in claimed}, {1})


@promise
def what_no_take_names_is_untouched(ground: Bench) -> None:
    """Other kinds, versions, lanes, queues and domains stay as they are, also in front of what is taken."""
    others = [
        job(kind="app.unknown", priority=0),
        job(version=2, priority=0),
        job(lane=model.Lane.SHORT, priority=0),
        job(queue="other", priority=0),
        job(domain="acme", priority=0),
        job(domain="main.acme", priority=0),
    ]
    mine = job(priority=9)
    ground.put(*others, mine)
    equal([one.id for one in ground.claim(take("app.work", "app.more"))], [mine.id])
    equal(ground.engine.get([one.key for one in others]), others)
    equal(ground.claim(take("app.more"), take(queue="nowhere"), take(domain="nowhere")), [])


@promise
def each_kind_has_versions_of_its_own(ground: Bench) -> None:
    """A take names the versions kind by kind."""
    jobs = [job(kind=kind, version=version) for kind in ("app.a", "app.b") for version in (1, 2)]
    ground.put(*jobs)
    kinds = (("app.a", (1,)), ("app.b", (2, 3)))
    claimed = ground.claim(seam.Take("main", "default", model.Lane.LONG, kinds, 10))
    equal([(one.kind, one.version) for one in claimed], [("app.a", 1), ("app.b", 2)])


@promise
def only_available_jobs_are_claimed(ground: Bench) -> None:
    """Not those that run, are finished, or wait for their time, even when it has come: that is Promote's."""
    ground.running()
    ground.finished()
    retry = ground.running()
    ground.one(settle(retry, states.failed(retry, NOW)))
    ground.put(job(delay=1))
    equal(ground.claim(now=NOW + 3600 * SECOND, node=OTHER), [])


@promise
def a_fence_grows_at_every_claim(ground: Bench) -> None:
    """Through releases, failures, deaths and new runs; it never falls and never comes twice."""
    one = ground.running(max_attempts=2)
    fences = [one.fence]
    for end in (
        lambda job: release(job),
        lambda job: seam.Expire((NODE,), 10, NOW),
        lambda job: settle(job, states.postponed(job, 0, NOW)),
        lambda job: settle(job, states.succeeded(job, None, NOW)),
    ):
        ground.one(end(one))
        state = ground.read(one).state
        if state == model.State.RETRYABLE:
            equal(ground.one(seam.Promote((("main", "default"),), 1, NOW)), seam.Promoted(1))
        if state == model.State.COMPLETED:
            ground.one(seam.Retry("main", one.id, NOW))
        (one,) = ground.claim()
        fences.append(one.fence)
    equal(fences, [1, 2, 3, 4, 5])
    equal((one.run, one.attempts, one.deaths), (2, 0, 0))


@promise
def a_claim_clears_what_the_last_one_left(ground: Bench) -> None:
    """Progress and reason are those of the present attempt."""
    one = ground.running()
    ground.one(seam.Renew(NODE, ((*one.key, one.fence, model.Progress(1, 2, "half")),), NOW))
    equal(ground.read(one).progress, model.Progress(1, 2, "half"))
    ground.one(release(one))
    (again,) = ground.claim(node=OTHER)
    equal((again.progress, again.reason, again.node), (None, None, OTHER))
    equal(ground.read(one), again)


@promise
def a_released_job_keeps_its_place(ground: Bench) -> None:
    """Handed back or left by a dead node, it is claimed before what came later, if only by its place in the store."""
    for step in (0, 1):
        ground.put(*(job(now=NOW + i * step, queue=f"q{step}") for i in range(4)), now=NOW + 9)
        first, second = ground.claim(take(queue=f"q{step}"), limit=2, now=NOW + 9)
        ground.one(release(second, NOW + 9))
        ground.one(seam.Expire((NODE,), 10, NOW + 9))
        equal([one.id for one in ground.claim(take(queue=f"q{step}"), limit=3)][:2], [first.id, second.id])


@promise
def a_claim_of_nothing_is_empty(ground: Bench) -> None:
    """Nothing there, no takes, no kinds: an empty answer, never a refusal; and no claimant is made."""
    equal(ground.claim(), [])
    ground.put(job())
    equal(ground.one(seam.Claim(NODE, (), 10, NOW)), seam.Claimed([]))
    nothing = seam.Take("main", "default", model.Lane.LONG, (), 10)
    unversioned = msgspec.structs.replace(nothing, kinds=(("app.work", ()),))
    equal(ground.claim(nothing, unversioned), [])
    equal(ground.engine.claimants(), [])


@promise
def a_claim_takes_many(ground: Bench) -> None:
    """Hundreds at once, of many kinds, queues and versions, none left out and none twice."""
    jobs = [job(kind=f"app.k{i % 40}", queue=f"q{i % 3}", version=1 + i % 2) for i in range(600)]
    ground.put(*jobs)
    kinds = tuple((f"app.k{i}", (1, 2)) for i in range(45))
    takes = [seam.Take("main", f"q{i}", model.Lane.LONG, kinds, 250) for i in range(3)]
    claimed = ground.claim(*takes)
    equal({one.id for one in claimed}, {one.id for one in jobs})
    equal([len(claimed), len({one.id for one in claimed})], [600, 600])
    equal([one.queue for one in claimed], ["q0"] * 200 + ["q1"] * 200 + ["q2"] * 200)
