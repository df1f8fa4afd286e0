"""Put: a job is stored once, as it was given."""

from __future__ import annotations

import msgspec

from callboard.jobs import engine as seam
from callboard.jobs import model, states
from callboard.testing.conformance.jobs.bench import NODE, NOW, SECOND, Bench, equal, job, promise, take

IDEMPOTENCY = model.IDEMPOTENCY_SECONDS * SECOND


@promise
def a_job_is_stored_as_given(ground: Bench) -> None:
    """Every field comes back, in every type's extremes."""
    full = job(
        domain="team.acme",
        queue="images",
        lane=model.Lane.SHORT,
        version=3,
        priority=0,
        args=bytes(range(256)) * 8,
        digest=bytes(range(16)),
        tags=("blue", "größe 10%_", "'; --"),
        meta={"traceparent": "00-ab", "ü": ""},
        max_attempts=1000,
        backoff=0,
        timeout=1,
        delay=86_400 * 3_650,
    )
    plain = job(args=b"", timeout=None)
    ground.put(full, plain)
    equal(ground.engine.get([full.key, plain.key]), [full, plain])
    equal(full.state, model.State.SCHEDULED)


@promise
def big_arguments_and_results_are_kept(ground: Bench) -> None:
    """The largest arguments and the largest result that are allowed by default."""
    big = bytes(range(256)) * (model.MAX_PAYLOAD // 256)
    claimed = ground.running(args=big)
    equal(claimed.args, big)
    ended = states.succeeded(claimed, big[::-1], NOW)
    ground.one(seam.Settle(*claimed.key, NODE, claimed.fence, ended.outcome))
    equal(ground.read(claimed).result, big[::-1])


@promise
def the_same_job_again_changes_nothing(ground: Bench) -> None:
    """(domain, id) with the same digest answers Same with the state of now, whatever else differs."""
    made = job()
    ground.put(made)
    again = msgspec.structs.replace(made, priority=1, run_at=NOW + SECOND, state=model.State.SCHEDULED, args=b"other")
    equal(ground.one(seam.Put(again, NOW)), seam.Same(model.State.AVAILABLE))
    equal(ground.read(made), made)
    ground.claim()
    equal(ground.one(seam.Put(again, NOW + SECOND)), seam.Same(model.State.RUNNING))
    ground.one(seam.Cancel("main", made.id, NOW))
    equal(ground.read(made).cancel_requested, True)


@promise
def the_same_job_twice_at_once_is_one(ground: Bench) -> None:
    """Twice in one unit, and in two units of one batch: the first makes it."""
    first, second = job(), job()
    equal(ground.unit(seam.Put(first, NOW), seam.Put(first, NOW)), [seam.Created(), seam.Same(model.State.AVAILABLE)])
    other = msgspec.structs.replace(second, digest=b"e" * 16)
    results = ground.batch([(seam.Put(each, NOW),) for each in (second, job(), second, other, job())])
    equal(results[2], [seam.Same(model.State.AVAILABLE)])
    equal(results[3], seam.Refused(0, seam.Conflict(model.State.AVAILABLE)))
    equal(ground.count(), {"available": 4})
    equal(ground.read(second), second)


@promise
def another_content_under_an_id_is_a_conflict(ground: Bench) -> None:
    """The guard fails, nothing changes, and the state is told."""
    made = ground.finished(tags=("blue",))
    other = job(id=made.id, digest=b"e" * 16, tags=("red",))
    equal(ground.refused(seam.Put(job(), NOW), seam.Put(other, NOW)), seam.Refused(1, seam.Conflict(model.State.COMPLETED)))
    equal(ground.read(made), made)
    equal(ground.all(seam.Filter(domain="main", tag="red")), [])
    equal(ground.count(), {"completed": 1})


@promise
def an_absent_id_that_is_too_old_is_stale(ground: Bench) -> None:
    """Older than the idempotency time by the id's own time: nobody can tell a retry from new work."""
    made = job()
    late = NOW + IDEMPOTENCY + SECOND
    equal(ground.refused(seam.Put(made, late)), seam.Refused(0, seam.Stale()))
    ground.absent(made)
    ground.put(made, now=NOW + IDEMPOTENCY)
    equal(ground.one(seam.Put(made, late)), seam.Same(model.State.AVAILABLE))
    other = msgspec.structs.replace(made, digest=b"e" * 16)
    equal(ground.refused(seam.Put(other, late)), seam.Refused(0, seam.Conflict(model.State.AVAILABLE)))


@promise
def a_stale_id_among_many_is_found(ground: Bench) -> None:
    """A batch of puts with one stale id stores the others."""
    late = NOW + IDEMPOTENCY + SECOND
    jobs = [job(now=late) for _ in range(50)]
    jobs[20] = job()
    results = ground.batch([(seam.Put(made, late),) for made in jobs])
    equal([i for i, result in enumerate(results) if result == seam.Refused(0, seam.Stale())], [20])
    equal(ground.count(), {"available": 49})


@promise
def an_id_belongs_to_its_domain(ground: Bench) -> None:
    """The same id in two domains makes two jobs, which go their own ways."""
    here = job()
    there = msgspec.structs.replace(here, domain="acme", digest=b"e" * 16)
    ground.put(here, there)
    (claimed,) = ground.claim(take(domain="acme"))
    equal(claimed.domain, "acme")
    equal(ground.read(here), here)
    equal((ground.count(), ground.count("acme")), ({"available": 1}, {"running": 1}))
