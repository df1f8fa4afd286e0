"""Durability, several engines and processes on one store, reading while writing, closing."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Final, TypeVar

import msgspec

from callboard.jobs import engine as seam
from callboard.jobs import states
from callboard.testing.conformance.jobs.bench import (
    NODE,
    NOW,
    OTHER,
    Bench,
    equal,
    job,
    promise,
    promise_if,
    settle,
    take,
    unit,
)

RIVALS_SECONDS: Final = 60
T = TypeVar("T")


@promise
def closing_twice_is_allowed(ground: Bench) -> None:
    """Close frees what the engine holds, once."""
    ground.put(job())
    ground.engine.close()
    ground.engine.close()


@promise_if("durable")
def what_was_acknowledged_is_there_after_reopening(ground: Bench) -> None:
    """Jobs in every state, errors, documents, renewals, counts: all as they were, commit by commit."""
    for step in _history(ground):
        before = ground.everything()
        ground.reopen()
        if ground.everything() != before:
            raise AssertionError(f"after {step} and reopening: got {ground.everything()!r:.2000}\nwanted {before!r:.2000}")


@promise_if("durable")
def work_goes_on_after_reopening(ground: Bench) -> None:
    """Claims still hold, fences go on, order and versions are kept."""
    running = ground.running()
    waiting = [job() for _ in range(3)]
    ground.put(*waiting)
    ground.one(seam.PutDocument("main", "a", 0, b"1"))
    ground.one(seam.PutDocument("main", "a", 1, None))
    ground.reopen()
    ground.one(settle(running, states.released(running, NOW)))
    fresh = job()
    ground.put(fresh)
    claimed = ground.claim()
    equal([(one.id, one.fence) for one in claimed], [(running.id, 2), *[(one.id, 1) for one in waiting], (fresh.id, 1)])
    equal(ground.refused(seam.PutDocument("main", "a", 0, b"x")).result, seam.Changed(2))


@promise_if("shared")
def what_one_engine_applied_the_others_read(ground: Bench) -> None:
    """At once, and the guards of each know what the others did."""
    other = ground.another()
    for number in range(20):
        made = job(kind=f"app.k{number}", tags=("blue",))
        ground.put(made)
        equal(other.get([made.key]), [made])
        equal(other.ready([take(made.kind)], NOW), True)
        equal(sum(row.jobs for row in other.counts("main")), number + 1)
        ((mine,),) = (claimed.jobs for claimed in unit(other, seam.Claim(OTHER, (take(made.kind),), 10, NOW)))
        equal((ground.read(made).node, ground.engine.ready([take(made.kind)], NOW)), (OTHER, False))
        equal(ground.claim(take(made.kind)), [])
        equal(ground.refused(settle(mine, states.succeeded(mine, None, NOW), node=NODE)).index, 0)
        equal(ground.one(settle(mine, states.succeeded(mine, b"\x01", NOW))), seam.Settled(ground.read(mine).state))
        equal(other.states([made.key]), [(ground.read(made).state, 1)])
    equal(len(other.find(seam.Filter(domain="main", tag="blue"), 100).jobs), 20)
    ground.one(seam.PutDocument("new.domain", "a", 0, b"1"))
    equal(other.document("new.domain", "a").version, 1)


@promise_if("shared")
def engines_that_claim_at_once_share_without_overlap(ground: Bench) -> None:
    """Two of them, each on a thread: every job once, every fence once."""
    jobs = [job(kind=f"app.k{i % 7}", priority=i % 3) for i in range(400)]
    ground.put(*jobs)
    wanted = take(*(f"app.k{i}" for i in range(7)))

    def claim_all(engine: seam.Engine, node: bytes) -> list[tuple[bytes, int]]:
        mine: list[tuple[bytes, int]] = []
        while claimed := unit(engine, seam.Claim(node, (wanted,), 9, NOW))[0].jobs:
            mine += [(one.id, one.fence) for one in claimed]
        return mine

    taken = _at_once([lambda: claim_all(ground.engine, NODE), lambda: claim_all(ground.another(), OTHER)])
    equal(sorted(taken[0] + taken[1]), sorted((one.id, 1) for one in jobs))


@promise_if("shared")
def the_same_jobs_put_at_once_are_made_once(ground: Bench) -> None:
    """Two engines store the same jobs, and race for a document: one creates each, no version is written twice."""
    jobs = [job() for _ in range(60)]

    def race(engine: seam.Engine) -> tuple[int, int]:
        created = written = 0
        for made in jobs:
            expect = engine.document("main", "race").version
            first, second = engine.apply([(seam.Put(made, NOW),), (seam.PutDocument("main", "race", expect, b"x"),)])
            created += not isinstance(first, seam.Refused) and list(first) == [seam.Created()]
            written += not isinstance(second, seam.Refused)
        return created, written

    outcomes = _at_once([lambda: race(ground.engine), lambda: race(ground.another())])
    equal(sum(created for created, _ in outcomes), len(jobs))
    equal(ground.engine.document("main", "race").version, sum(written for _, written in outcomes))
    equal(ground.count(), {"available": len(jobs)})


@promise_if("processes")
def processes_that_claim_at_once_share_without_overlap(ground: Bench) -> None:
    """Three processes claim and settle what this one stored and stores meanwhile: every job once, no fence twice."""
    jobs = [job() for _ in range(600)]
    ground.put(*jobs[:300])
    command = [sys.executable, "-m", "callboard.testing.conformance.jobs.rival", ground.url, str(len(jobs))]
    rivals = [subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE) for number in range(3)]
    try:
        for made in jobs[300:]:
            ground.put(made)
        said = [rival.communicate(timeout=RIVALS_SECONDS)[0] for rival in rivals]
    finally:
        for rival in rivals:
            rival.kill()
            rival.wait()
    equal([rival.returncode for rival in rivals], [0, 0, 0])
    claimed = [tuple(one) for text in said for one in msgspec.json.decode(text, type=list[tuple[bytes, int]])]
    equal(sorted(claimed), sorted((made.id, 1) for made in jobs))
    equal(ground.count(), {"completed": len(jobs)})


@promise
def reading_goes_on_while_units_are_applied(ground: Bench) -> None:
    """One thread reads while another applies: no error, whole units, and what is read never goes back."""
    made = job()
    ground.put(made)
    stop = threading.Event()
    body = b"x" * 1000

    def write() -> int:
        try:
            for number in range(60):
                ground.unit(seam.PutDocument("main", "a", number, body), seam.Claim(NODE, (take(),), 1, NOW))
                ground.refused(seam.PutDocument("main", "a", number + 1, b"never"), seam.Require("main", "a", 0))
                ground.one(seam.Release("main", made.id, NODE, number + 1, NOW))
        finally:
            stop.set()
        return 0

    def read() -> int:
        version = fence = reads = 0
        while not stop.is_set() or not reads:
            document, (found,) = ground.engine.document("main", "a"), ground.engine.get([made.key])
            if found is None or found.fence < fence or document.version < version or document.body not in (b"", body):
                raise AssertionError(f"read {document.version} and {found} after {version} and {fence}")
            version, fence = document.version, found.fence
            if (found.node is None) == (found.state == found.state.RUNNING):
                raise AssertionError(f"half a unit was read: {found}")
            equal(sum(row.jobs for row in ground.engine.counts("main")), 1)
            equal(len(ground.engine.find(seam.Filter(domain="main"), 10).jobs), 1)
            reads += 1
        return reads

    _at_once([write, read])
    equal(ground.engine.document("main", "a").version, 60)


def _history(ground: Bench) -> Iterator[str]:
    ground.put(job(tags=("blue",)), job(delay=5), job(domain="acme", queue="q"))
    yield "putting jobs"
    first = ground.running(kind="app.first", tags=("blue",))
    yield "a claim"
    ground.one(seam.Renew(NODE, ((*first.key, 1, None),), NOW))
    yield "a renewal"
    ground.one(settle(first, states.failed(first, NOW)))
    yield "a failure"
    ground.finished(kind="app.second")
    yield "a success"
    ground.one(seam.PutDocument("main", "a", 0, b"1"))
    yield "a document"
    third = ground.running(kind="app.third")
    ground.one(seam.Cancel("main", third.id, NOW))
    yield "a wish to cancel"
    ground.one(seam.Expire((NODE,), 10, NOW))
    yield "a death"
    ground.one(seam.Retry("main", third.id, NOW))
    yield "a retry"
    ground.one(seam.Promote((("main", "default"),), 10, NOW * 2))
    yield "a promotion"
    ground.refused(seam.Put(job(), NOW), seam.Require("main", "a", 9))
    yield "a refused unit"
    ground.one(seam.Purge("main", NOW * 2, 0, NOW * 2, 10))
    yield "a purge"


def _at_once(works: Sequence[Callable[[], T]]) -> list[T]:
    with futures.ThreadPoolExecutor(len(works)) as pool:
        return [future.result() for future in [pool.submit(work) for work in works]]
