"""The account of a demo: right when all is well, loud about everything that is not. On made-up stories."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from callboard import builtin
from callboard.cli.demo import account, course, files
from callboard.http import shapes

BEGAN = datetime(2030, 1, 1, tzinfo=UTC)
NODES = {"gateway": 2, "worker": 3}


def seconds(number):
    return BEGAN + timedelta(seconds=number)


def found(number):
    return builtin.Inspection(bytes=number, sha256=f"{number:064}", lines=1)


def job(number, **changed):
    facts: dict[str, Any] = {
        "id": f"id-{number}",
        "domain": "main",
        "kind": course.KIND,
        "version": 1,
        "queue": "default",
        "lane": "short",
        "state": "completed",
        "priority": 5,
        "tags": (),
        "args": {},
        "submitted_at": BEGAN,
        "run_at": BEGAN,
        "started_at": seconds(1),
        "finished_at": seconds(10),
        "run": 1,
        "fence": 1,
        "attempts": 1,
        "max_attempts": 1,
        "deaths": 0,
        "timeout": None,
        "backoff": 1.0,
        "cancel_requested": False,
        "result": msgspec.to_builtins(found(number)),
        "reason": None,
        "progress": None,
        "node": None,
        "meta": {},
    }
    return shapes.Job(**(facts | changed))


def detail(of, *codes):
    failures = [
        shapes.AttemptError(run=1, fence=1, attempt=1, code=code, type="", message="", traceback="", at=seconds(5))
        for code in codes
    ]
    return shapes.JobDetail(**{name: getattr(of, name) for name in of.__struct_fields__}, errors=failures)


def story(*changed, running=(3,), **facts):
    """Twenty files; job 3 was running when its worker was killed at second 5, and ran again 0.2 s later."""
    jobs = {each.id: each for each in (job(number) for number in range(20))}
    jobs["id-3"] = job(3, fence=2, deaths=1, started_at=seconds(5.2))
    jobs |= {each.id: each for each in changed}
    given: dict[str, Any] = {
        "paths": {f"id-{number}": f"/f/{number:02}" for number in range(20)},
        "first_seen": dict(jobs),
        "jobs": jobs,
        "details": {each.id: detail(each, "worker_lost") for each in jobs.values() if each.fence > 1},
        "worker": course.Kill("w", 1, seconds(5).timestamp(), [job(number, state="running") for number in running]),
        "gateway": course.Kill("g", 2, seconds(5).timestamp(), []),
        "nodes": [{"roles": [{"role": role}]} for role, count in NODES.items() for _ in range(count)],
        "retries": 1,
    }
    return course.Story(**(given | facts))


def judged(of, direct=None, changed=()):
    kept = account.balance(of, "/f", 4, changed)
    right = files.total((f"/f/{number:02}", found(number)) for number in range(20) if f"/f/{number:02}" not in changed)
    return kept, account.faults(kept, of, direct or right, NODES)


def test_when_all_is_well():
    kept, faults = judged(story())
    assert faults == []
    assert (kept.submitted, kept.completed, kept.lost, kept.finished_twice) == (20, 20, [], [])
    assert kept.started_again == ["/f/03"]
    assert kept.killed_while_running == 1
    assert kept.rescue_seconds == pytest.approx(0.2)
    assert (kept.seconds, kept.jobs_per_second) == (10, 2)
    assert [path for path, _ in kept.largest] == [f"/f/{number:02}" for number in range(19, 9, -1)]
    assert kept.nodes == NODES


def without(id):
    whole = story()
    return msgspec.structs.replace(whole, jobs={key: each for key, each in whole.jobs.items() if key != id})


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        (without("id-7"), "lost: /f/07"),
        (story(job(7, state="running", finished_at=None)), "lost: /f/07"),
        (story(job(7, state="discarded", result=None, reason="failed")), "failed: /f/07"),
        (story(job(7, attempts=2)), "finished twice: /f/07"),
        (story(job(7), first_seen={"id-7": job(7, finished_at=seconds(9))}), "finished twice: /f/07"),
        (story(job(7, fence=2)), "started again without a reason: /f/07"),
        (story(running=(3, 8)), "not started again after its worker was killed: /f/08"),
        (story(running=()), "the demo has shown nothing"),
        (story(*(job(number, fence=2) for number in range(3, 8)), running=range(3, 8)), "5 jobs were started again"),
        (story(details={"id-3": detail(job(3, fence=2), "failed")}), "started again otherwise: /f/03"),
        (story(nodes=[]), "0 nodes of role worker"),
        (story(job(7, result=msgspec.to_builtins(found(8)))), "bytes of the results is 191, counted directly it is 190"),
    ],
    ids=range(12),
)
def test_every_fault_is_told(told, fault):
    _, faults = judged(told)
    assert any(fault in each for each in faults), faults


def test_a_wrong_byte_shows_in_the_digest_alone():
    wrong = msgspec.structs.replace(found(7), sha256="f" * 64)
    _, faults = judged(story(job(7, result=msgspec.to_builtins(wrong))))
    assert len(faults) == 1 and faults[0].startswith("digest of the results")


def test_files_that_changed_meanwhile_are_in_no_total():
    gone = job(7, state="discarded", result=None, reason="failed")
    kept, faults = judged(story(gone, job(8, result=msgspec.to_builtins(found(80)))), changed={"/f/07", "/f/08"})
    assert faults == []
    assert kept.changed == ["/f/07", "/f/08"]
    assert kept.totals.files == 18


def test_many_are_named_by_the_first():
    _, faults = judged(story(*(job(number, attempts=2) for number in range(10))))
    assert any("/f/00, /f/01, /f/02, /f/03, /f/04 and 5 more" in each for each in faults)


def test_jobs_are_slowed_down_only_when_there_are_few():
    assert course.pace(2450, 12) == 0
    assert course.pace(100, 12) == 0.36
