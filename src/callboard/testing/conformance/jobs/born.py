"""Put of a job that is claimed already: from its first moment it is its node's, like one that a claim gave to it."""

from __future__ import annotations

from typing import Any

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
    promise_if,
    release,
    same_members,
    settle,
    take,
    unit,
)

LATER = NOW + 5 * SECOND


def born(*, node: bytes = NODE, **fields: Any) -> model.Job:
    """Return a new job as it is put claimed."""
    return states.claimed(job(**fields), node, fields.get("now", NOW))


@promise
def a_job_put_claimed_is_stored_as_given(ground: Bench) -> None:
    """RUNNING, fence 1, its node and since when, with every other field; counted, listed and found as running."""
    full = born(
        domain="team.acme",
        queue="images",
        lane=model.Lane.SHORT,
        version=3,
        priority=0,
        args=bytes(range(256)),
        tags=("blue", "größe 10%_"),
        meta={"traceparent": "00-ab", "ü": ""},
        timeout=1,
        node=OTHER,
        now=LATER,
    )
    plain = born(args=b"", timeout=None)
    ground.put(full, plain)
    equal(ground.engine.get([full.key, plain.key]), [full, plain])
    equal((plain.state, plain.fence, plain.node, plain.started_at), (State.RUNNING, 1, NODE, NOW))
    equal((ground.count(), ground.count("team.acme")), ({"running": 1}, {"running": 1}))
    same_members(ground.engine.claimants(), [(NODE, 0), (OTHER, 0)])
    equal(ground.all(seam.Filter(domain="team.acme", states=frozenset({State.RUNNING}), tag="blue")), [full])


@promise
def what_is_put_claimed_is_nobody_elses(ground: Bench) -> None:
    """No poll sees it, no claim gets it, and those beside it are served in the order in which they were stored."""
    ground.put(born())
    equal(ground.engine.ready([take()], LATER), False)
    equal(ground.claim(now=LATER), [])
    made = [job() if i % 3 else born() for i in range(12)]
    ground.put(*made)
    equal([one.id for one in ground.claim(node=OTHER)], [one.id for one in made if one.node is None])
    equal(ground.engine.get([one.key for one in made if one.node])[0], made[0])
    equal(ground.count(), {"running": 13})


@promise
def a_node_settles_what_was_put_claimed_for_it(ground: Bench) -> None:
    """Once, at fence 1, as any claim: another node or fence has lost."""
    made = born(tags=("blue",))
    ground.put(made)
    ended = states.failed(made, LATER, message="m")
    lost = seam.Refused(0, seam.Lost(State.RUNNING, 1, NODE))
    for wrong in ({"node": OTHER}, {"fence": 0}, {"fence": 2}):
        equal(ground.refused(settle(made, ended, **wrong)), lost)
    equal(ground.one(settle(made, ended)), seam.Settled(State.RETRYABLE))
    equal(ground.read(made), states.settled(made, ended))
    equal(ground.engine.attempt_errors(*made.key), [ended.error])
    equal(ground.refused(settle(made, ended)), seam.Refused(0, seam.Lost(State.RETRYABLE, 1, None)))
    equal((ground.engine.claimants(), ground.count()), ([], {"retryable": 1}))


@promise
def what_was_put_claimed_is_released(ground: Bench) -> None:
    """Then it is available, by its age; the next claim has fence 2, and the first owner has lost it."""
    made, after = born(), job()
    ground.put(made, after)
    equal(ground.one(release(made)), seam.Settled(State.AVAILABLE))
    equal(ground.read(made), states.settled(made, states.released(made, NOW)))
    first, second = ground.claim(node=OTHER)
    equal([(first.id, first.fence), (second.id, second.fence)], [(made.id, 2), (after.id, 1)])
    equal(ground.refused(release(made)).result, seam.Lost(State.RUNNING, 2, OTHER))


@promise
def a_node_renews_what_was_put_claimed_for_it(ground: Bench) -> None:
    """Its progress is kept; a wish to cancel reaches it and decides how it ends."""
    made, other = born(), born(node=OTHER)
    ground.put(made, other)
    claims = tuple((*one.key, 1, Progress(1, 2, "ü")) for one in (made, other))
    equal(ground.one(seam.Renew(NODE, claims, LATER)), seam.Renewed((claims[1][:3],), ()))
    equal(ground.read(made).progress, Progress(1, 2, "ü"))
    equal(ground.one(seam.Cancel("main", made.id, LATER)), seam.Became(State.RUNNING, NODE))
    equal(ground.one(seam.Renew(NODE, claims[:1], LATER)), seam.Renewed((), (claims[0][:3],)))
    same_members(ground.engine.claimants(), [(NODE, LATER), (OTHER, 0)])
    equal(ground.one(settle(made, states.failed(made, LATER))), seam.Settled(State.CANCELLED))


@promise
def what_was_put_claimed_ends_with_its_node(ground: Bench) -> None:
    """A node that died counts, whether it ever renewed or not; the job is available again, its neighbour's is not."""
    made, other = born(), born(node=OTHER)
    ground.put(made, other)
    end = states.died(made, LATER)
    equal(ground.one(seam.Expire((NODE,), 10, LATER)), seam.Expired([states.settled(made, end)]))
    equal(ground.engine.attempt_errors(*made.key), [end.error])
    equal(ground.engine.claimants(), [(OTHER, 0)])
    (again,) = ground.claim()
    equal((again.id, again.fence, again.deaths), (made.id, 2, 1))


@promise
def putting_a_claimed_job_again_changes_nothing(ground: Bench) -> None:
    """Same with the state of now, whoever puts it again, claimed or not; the claim is that of the first."""
    made = born()
    ground.put(made)
    waiting = states.submitted(msgspec.structs.replace(made, state=State.AVAILABLE, node=None, fence=0, started_at=None), LATER)
    again = states.claimed(waiting, OTHER, LATER)
    answers = ground.batch([(seam.Put(made, NOW),), (seam.Put(again, LATER),), (seam.Put(waiting, LATER),)])
    equal(answers, [[seam.Same(State.RUNNING)]] * 3)
    equal(ground.read(made), made)
    equal((ground.engine.claimants(), ground.count()), ([(NODE, 0)], {"running": 1}))
    ground.one(settle(made, states.succeeded(made, b"\x01", LATER)))
    equal(ground.one(seam.Put(again, LATER)), seam.Same(State.COMPLETED))
    equal((ground.engine.claimants(), ground.count()), ([], {"completed": 1}))


@promise
def what_waits_is_not_claimed_by_a_put(ground: Bench) -> None:
    """A job that is there already stays as it is; with another content it is a conflict, and too old an id is stale."""
    waiting = job()
    ground.put(waiting)
    equal(ground.one(seam.Put(states.claimed(waiting, NODE, LATER), LATER)), seam.Same(State.AVAILABLE))
    other = msgspec.structs.replace(states.claimed(waiting, NODE, LATER), digest=b"e" * 16)
    equal(ground.refused(seam.Put(other, LATER)), seam.Refused(0, seam.Conflict(State.AVAILABLE)))
    late = NOW + (model.IDEMPOTENCY_SECONDS + 1) * SECOND
    equal(ground.refused(seam.Put(born(), late)), seam.Refused(0, seam.Stale()))
    equal(ground.read(waiting), waiting)
    equal((ground.engine.claimants(), ground.count()), ([], {"available": 1}))


@promise
def a_refused_unit_leaves_no_claim(ground: Bench) -> None:
    """A job that is put claimed beside a failing guard is not there, and nobody owns it."""
    made = born(tags=("blue",))
    before = ground.everything()
    equal(ground.refused(seam.Put(made, NOW), seam.PutDocument("main", "a", 1, b"")), seam.Refused(1, seam.Changed(0)))
    equal(ground.everything(), before)
    ground.put(made)
    equal(ground.one(settle(made, states.succeeded(made, None, NOW))), seam.Settled(State.COMPLETED))


@promise
def many_are_put_claimed_and_settled_at_once(ground: Bench) -> None:
    """Hundreds in a batch, of several kinds and nodes, with and without tags, and their ends in one batch."""
    nodes = (NODE, OTHER)
    made = [born(kind=f"app.k{i % 3}", node=nodes[i // 200 % 2], tags=("blue",) * (i % 2)) for i in range(600)]
    ground.put(*made)
    equal(ground.count(), {"running": 600})
    same_members(ground.engine.claimants(), [(NODE, 0), (OTHER, 0)])
    ends = [(settle(one, states.succeeded(one, b"\x01", LATER)),) for one in made]
    equal(ground.batch(ends), [[seam.Settled(State.COMPLETED)]] * 600)
    equal(ground.count(), {"completed": 600})
    equal(ground.engine.claimants(), [])
    equal([one.node for one in ground.all(seam.Filter(domain="main", tag="blue"))], [None] * 300)


@promise_if("shared")
def what_is_put_claimed_is_so_for_every_engine(ground: Bench) -> None:
    """Another engine on the same store sees the claim, and ends it when it has to."""
    made, dying = born(), born(node=OTHER)
    ground.put(made, dying)
    second = ground.another()
    equal(second.get([made.key, dying.key]), [made, dying])
    equal(unit(second, settle(made, states.succeeded(made, None, LATER))), [seam.Settled(State.COMPLETED)])
    (expired,) = unit(second, seam.Expire((OTHER,), 10, LATER))
    equal([one.id for one in expired.jobs], [dying.id])
    end = settle(dying, states.succeeded(dying, None, LATER))
    equal(ground.refused(end), seam.Refused(0, seam.Lost(State.AVAILABLE, 1, None)))
