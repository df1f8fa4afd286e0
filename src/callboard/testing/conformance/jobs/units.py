"""Units: all or nothing, one after the other, each for itself."""

from __future__ import annotations

from callboard.jobs import engine as seam
from callboard.jobs import model, states
from callboard.testing.conformance.jobs.bench import NODE, NOW, OTHER, SECOND, Bench, equal, job, promise, release, settle, take

BAD = seam.Require("main", "nowhere", 7)
"""An operation whose guard always fails."""


@promise
def a_refused_put_leaves_nothing(ground: Bench) -> None:
    """Nothing of a unit is applied when a later guard fails, and the result names the operation."""
    first, second = job(tags=("blue",)), job()
    refused = ground.refused(seam.Put(first, NOW), BAD, seam.Put(second, NOW))
    equal(refused, seam.Refused(1, seam.Changed(0)))
    ground.absent(first)
    ground.absent(second)
    equal(ground.count(), {})
    equal(ground.claim(), [])


@promise
def a_refused_unit_leaves_everything_as_it_was(ground: Bench) -> None:
    """Every kind of operation is taken back."""
    failing, handed, dying = ground.running(), ground.running(), ground.running(node=OTHER)
    done = ground.finished(tags=("blue",))
    waiting, due = job(tags=("blue",)), job(delay=1)
    ground.put(waiting, due)
    ground.one(seam.PutDocument("main", "a", 0, b"1"))
    ground.one(seam.Renew(NODE, ((*failing.key, failing.fence, model.Progress(1, 2)),), NOW))
    before = ground.everything()
    later = NOW + 2 * SECOND
    refused = ground.refused(
        settle(failing, states.failed(failing, later)),
        release(handed, later),
        seam.Expire((OTHER,), 10, later),
        seam.Promote((("main", "default"),), 10, later),
        seam.Claim(b"n" * 16, (take(),), 10, later),
        seam.Cancel("main", dying.id, later),
        seam.Retry("main", done.id, later),
        seam.Renew(NODE, ((*failing.key, failing.fence, model.Progress(2, 2)),), later),
        seam.Put(job(domain="other"), later),
        seam.PutDocument("main", "a", 1, None),
        seam.PutDocument("main", "b", 0, b"2"),
        BAD,
    )
    equal(refused, seam.Refused(11, seam.Changed(0)))
    equal(ground.everything(), before)
    equal(ground.refused(seam.Purge("main", later, 0, later, 10), BAD).index, 1)
    equal(ground.everything(), before)
    equal([claimed.id for claimed in ground.claim(now=later)], [waiting.id])


@promise
def a_refused_unit_does_not_harm_its_neighbours(ground: Bench) -> None:
    """Units of one batch are independent: the good ones are applied, whatever stands between them."""
    jobs = [job() for _ in range(6)]
    units = [(seam.Put(jobs[i], NOW), BAD) if i % 3 == 1 else (seam.Put(jobs[i], NOW),) for i in range(6)]
    refused, created = seam.Refused(1, seam.Changed(0)), [seam.Created()]
    equal(ground.batch(units), [created, refused, created, created, refused, created])
    found = ground.engine.get([made.key for made in jobs])
    equal([made is not None for made in found], [True, False, True, True, False, True])
    equal(ground.count(), {"available": 4})


@promise
def one_lost_claim_does_not_harm_a_batch_of_settles(ground: Bench) -> None:
    """A hundred ends of claims in one batch, two of them of claims that are lost: the others hold."""
    ground.put(*(job() for _ in range(100)))
    claimed = ground.claim()
    strange = {13, 77}
    units = [
        (settle(one, states.succeeded(one, b"\x01", NOW), fence=one.fence + (i in strange)),) for i, one in enumerate(claimed)
    ]
    for i, result in enumerate(ground.batch(units)):
        lost = seam.Refused(0, seam.Lost(model.State.RUNNING, 1, NODE))
        equal(result, lost if i in strange else [seam.Settled(model.State.COMPLETED)])
    equal(ground.count(), {"completed": 98, "running": 2})


@promise
def units_are_applied_in_their_order(ground: Bench) -> None:
    """What a unit did is there for the next one of the batch."""
    made = job()
    claimed = states.claimed(made, NODE, NOW)
    results = ground.batch(
        [
            (seam.Cancel("main", made.id, NOW),),
            (seam.Put(made, NOW),),
            (seam.Put(made, NOW),),
            (seam.Claim(NODE, (take(),), 10, NOW),),
            (settle(claimed, states.succeeded(claimed, b"\x07", NOW)),),
            (seam.Cancel("main", made.id, NOW),),
            (seam.Retry("main", made.id, NOW),),
        ]
    )
    equal(
        results,
        [
            seam.Refused(0, seam.NotAllowed(None)),
            [seam.Created()],
            [seam.Same(model.State.AVAILABLE)],
            [seam.Claimed([claimed])],
            [seam.Settled(model.State.COMPLETED)],
            seam.Refused(0, seam.NotAllowed(model.State.COMPLETED)),
            [seam.Became(model.State.AVAILABLE)],
        ],
    )


@promise
def operations_of_a_unit_see_each_other(ground: Bench) -> None:
    """Within a unit each operation finds what those before it did: submit and claim in one."""
    made = job()
    created, claimed, wish, stored, held = ground.unit(
        seam.Put(made, NOW),
        seam.Claim(NODE, (take(),), 10, NOW),
        seam.Cancel("main", made.id, NOW),
        seam.PutDocument("main", "a", 0, b""),
        seam.Require("main", "a", 1),
    )
    equal((created, stored, held), (seam.Created(), seam.Stored(1), seam.Held()))
    equal(claimed.jobs, [states.claimed(made, NODE, NOW)])
    equal(wish, seam.Became(model.State.RUNNING, NODE))


@promise
def the_first_failed_guard_is_named(ground: Bench) -> None:
    """Of several operations that would fail, the first one is reported."""
    refused = ground.refused(seam.Renew(NODE, (), NOW), seam.Cancel("main", job().id, NOW), BAD)
    equal(refused, seam.Refused(1, seam.NotAllowed(None)))
    equal(ground.engine.claimants(), [])


@promise
def nothing_to_apply_is_applied(ground: Bench) -> None:
    """No units, and a unit of no operations, are allowed."""
    equal(ground.engine.apply([]), [])
    equal(ground.batch([(), (seam.Renew(NODE, (), NOW),), ()]), [[], [seam.Renewed((), ())], []])
