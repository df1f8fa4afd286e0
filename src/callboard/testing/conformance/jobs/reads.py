"""Reads: by key, lists, counts, and what polling asks."""

from __future__ import annotations

import msgspec

from callboard import errors
from callboard.jobs import engine as seam
from callboard.jobs import model, states
from callboard.jobs.model import Lane, State
from callboard.testing.conformance.jobs.bench import (
    NOW,
    SECOND,
    Bench,
    equal,
    job,
    promise,
    same_members,
    settle,
    take,
)

EXACT = 10_000


@promise
def jobs_are_read_in_the_order_asked(ground: Bench) -> None:
    """A job or None for each key, also for keys that repeat; hundreds at once."""
    jobs = [job() for _ in range(300)]
    ground.put(*jobs)
    keys = [one.key for one in reversed(jobs)] + [("acme", jobs[0].id), job().key, jobs[7].key, jobs[7].key]
    wanted = [*reversed(jobs), None, None, jobs[7], jobs[7]]
    equal(ground.engine.get(keys), wanted)
    equal(ground.engine.states(keys), [None if one is None else (one.state, one.run) for one in wanted])
    equal((ground.engine.get([]), ground.engine.states([])), ([], []))
    equal(ground.engine.attempt_errors("main", job().id), [])


@promise
def jobs_are_listed_newest_first(ground: Bench) -> None:
    """By descending (id, domain), in pages of any size; the pages together hold each once."""
    jobs = [job() for _ in range(23)]
    ground.put(*jobs[::2], *jobs[1::2])
    for page in (1, 5, 23, 100):
        equal(ground.all(seam.Filter(domain="main"), page), jobs[::-1])
    equal(ground.engine.find(seam.Filter(domain="nowhere"), 10), seam.Page([], None))


@promise
def a_page_starts_where_the_last_one_ended(ground: Bench) -> None:
    """Jobs that came or went since then shift nothing."""
    jobs = [job() for _ in range(9)]
    ground.put(*jobs[:8])
    first = ground.engine.find(seam.Filter(domain="main"), 3)
    ground.put(jobs[8])
    ground.one(seam.Cancel("main", jobs[5].id, NOW))
    ground.one(seam.Purge("main", NOW * 2, 0, NOW * 2, 10))
    second = ground.engine.find(seam.Filter(domain="main"), 3, first.cursor)
    equal([one.id for one in first.jobs + second.jobs], [jobs[i].id for i in (7, 6, 5, 4, 3, 2)])


@promise
def a_filter_joins_its_conditions(ground: Bench) -> None:
    """States, kind, queue and tag: all that are given hold."""
    jobs = [
        job(kind=f"app.{kind}", queue=queue, tags=tags, delay=delay)
        for kind in "ab"
        for queue in ("x", "y")
        for tags in ((), ("red",), ("blue", "red"), ("reddish",))
        for delay in (0, 1)
    ]
    ground.put(*jobs)
    for states_ in (None, frozenset({State.SCHEDULED}), frozenset({State.SCHEDULED, State.AVAILABLE}), frozenset[State]()):
        for kind in (None, "app.a"):
            for queue in (None, "y"):
                for tag in (None, "red", "re", "nothing"):
                    wanted = [
                        one
                        for one in reversed(jobs)
                        if (states_ is None or one.state in states_)
                        and kind in (None, one.kind)
                        and queue in (None, one.queue)
                        and (tag is None or tag in one.tags)
                    ]
                    given = seam.Filter(domain="main", states=states_, kind=kind, queue=queue, tag=tag)
                    equal(ground.all(given, 7), wanted)


@promise
def a_filter_follows_changes(ground: Bench) -> None:
    """A job is found by the state it is in now, and by its tags whatever its state."""
    claimed = ground.running(tags=("blue",))
    ground.one(settle(claimed, states.failed(claimed, NOW)))
    equal(ground.all(seam.Filter(domain="main", states=frozenset({State.RUNNING}))), [])
    (found,) = ground.all(seam.Filter(domain="main", states=frozenset({State.RETRYABLE}), tag="blue"))
    equal(found, ground.read(claimed))


@promise
def a_subtree_is_listed_and_counted(ground: Bench) -> None:
    """A domain with those inside it; not its neighbours of similar names. One id in several domains is several jobs."""
    first, second = job(domain="acme", tags=("blue",)), job(domain="acme")
    inner = [msgspec.structs.replace(one, domain=name) for name in ("team.acme", "a.team.acme") for one in (first, second)]
    outer = [msgspec.structs.replace(first, domain=name) for name in ("xacme", "acme.main", "main", "acm", "team-acme")]
    ground.put(first, second, *inner, *outer)
    family = sorted([first, second, *inner], key=lambda one: (one.id, one.domain), reverse=True)
    for page in (1, 2, 4, 100):
        equal(ground.all(seam.Filter(domain="acme", subtree=True), page), family)
        blue = [one for one in family if one.tags]
        equal(ground.all(seam.Filter(domain="acme", subtree=True, tag="blue"), page), blue)
    equal(ground.all(seam.Filter(domain="acme"), 1), [second, first])
    equal(ground.count("acme", subtree=True), {"available": 6})
    equal(ground.count("acme"), {"available": 2})
    equal({row.domain for row in ground.engine.counts("acme", True)}, {"acme", "team.acme", "a.team.acme"})
    equal(ground.all(seam.Filter(domain="nowhere", subtree=True)), [])


@promise
def the_rare_is_found_among_many(ground: Bench) -> None:
    """However many jobs lie between: by following the cursors, over pages that may be empty."""
    rare = [job(tags=("blue",), queue="rare"), job(kind="app.rare")]
    ground.put(rare[0], *(job() for _ in range(4000)), rare[1])
    equal(ground.all(seam.Filter(domain="main", tag="blue")), [rare[0]])
    equal(ground.all(seam.Filter(domain="main", queue="rare")), [rare[0]])
    equal(ground.all(seam.Filter(domain="main", kind="app.rare", states=frozenset({State.AVAILABLE}))), [rare[1]])


@promise
def a_strange_cursor_is_refused(ground: Bench) -> None:
    """Bytes that no page gave are bad input, not a failure of the store."""
    ground.put(job(), job())
    for cursor in (b"x", b"\xff" * 40):
        try:
            ground.engine.find(seam.Filter(domain="main"), 1, cursor)
        except errors.InvalidInput:
            continue
        raise AssertionError(f"the cursor {cursor!r} was taken")


@promise
def counts_follow_every_change(ground: Bench) -> None:
    """By (domain, queue, kind, lane, state), through all that can happen to a job."""
    ground.put(job(queue="q", kind="app.a", lane=Lane.SHORT), job(queue="q", kind="app.a", lane=Lane.SHORT), job(delay=1))
    wanted = [
        model.Count("main", "q", "app.a", Lane.SHORT, State.AVAILABLE, 2),
        model.Count("main", "default", "app.work", Lane.LONG, State.SCHEDULED, 1),
    ]
    same_members([row for row in ground.engine.counts("main") if row.jobs], wanted)
    first, second = ground.claim(take("app.a", queue="q", lane=Lane.SHORT))
    equal(ground.count(), {"running": 2, "scheduled": 1})
    ground.one(settle(first, states.failed(first, NOW)))
    ground.one(seam.Expire((second.node or b"",), 1, NOW))
    equal(ground.count(), {"retryable": 1, "available": 1, "scheduled": 1})
    later = NOW + 10 * SECOND
    ground.one(seam.Promote((("main", "q"), ("main", "default")), 10, later))
    equal(ground.count(), {"available": 3})
    ground.one(seam.Cancel("main", second.id, later))
    ground.one(seam.Retry("main", second.id, later))
    ground.one(seam.Cancel("main", first.id, later))
    equal(ground.count(), {"available": 2, "cancelled": 1})
    ground.one(seam.Purge("main", later * 2, 0, later * 2, 10))
    equal(ground.count(), {"available": 2})
    equal(ground.count("nowhere"), {})


@promise
def counts_are_exact_to_ten_thousand(ground: Bench) -> None:
    """And a number over that is reported as one over that."""
    for _ in range(10):
        ground.put(*(job() for _ in range(EXACT // 10)))
    equal(ground.count(), {"available": EXACT})
    ground.put(*(job() for _ in range(3)))
    (number,) = ground.count().values()
    if number <= EXACT:
        raise AssertionError(f"{EXACT + 3} jobs are counted as {number}")
    claimed = ground.claim(limit=4)
    equal(len(claimed), 4)
    equal(ground.count(), {"available": EXACT - 1, "running": 4})


@promise
def ready_tells_whether_a_claim_would_get_something(ground: Bench) -> None:
    """Available jobs of a take, and due ones; not those of other queues, lanes, unknown kinds, or of later."""
    wanted = (take(queue="q"), take("app.a", "app.b", versions=(1, 2)))
    equal(ground.engine.ready(wanted, NOW), False)
    ground.put(job(kind="app.c"), job(kind="app.a", version=3), job(kind="app.a", lane=Lane.SHORT))
    ground.put(job(kind="app.a", domain="acme"), job(kind="app.a", delay=1))
    equal(ground.engine.ready(wanted, NOW), False)
    equal(ground.engine.ready(wanted, NOW + SECOND), True)
    equal(ground.engine.ready((), NOW + SECOND), False)
    equal(ground.engine.ready([msgspec.structs.replace(one, limit=0) for one in wanted], NOW + SECOND), False)
    mine = job(kind="app.b", version=2)
    ground.put(mine)
    equal(ground.engine.ready(wanted, NOW), True)
    ground.claim(wanted[1])
    equal(ground.engine.ready(wanted, NOW), False)
