"""The account of a demo: what became of every job, computed from what the store said, and whether it is as promised. Pure.

A job was *started again* when its fence is above 1. It *finished twice* when more endings of it were accepted than one (the store
counts an attempt at each accepted ending), or when its record changed after it was first seen finished.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

import msgspec

from callboard import builtin
from callboard.cli.demo import course, files
from callboard.http import shapes

LARGEST: Final = 10


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What the demo ends with."""

    root: str
    submitted: int
    completed: int
    lost: list[str]
    """Files whose job is not in the store, or not finished."""
    failed: list[str]
    """Files whose job ended otherwise than completed."""
    started_again: list[str]
    """Files whose job was started more than once."""
    finished_twice: list[str]
    killed_while_running: int
    """Jobs that the killed worker was running."""
    slots: int
    """Slots of the killed worker."""
    rescue_seconds: float
    """From the worker's death until the last of the jobs it was running ran again."""
    seconds: float
    """From the first submission to the last end."""
    jobs_per_second: float
    retries: int
    nodes: dict[str, int]
    """How many nodes of each role were alive at the end."""
    totals: files.Totals
    """What the jobs' results add up to."""
    largest: list[tuple[str, builtin.Inspection]]
    changed: list[str]
    """Files that changed while the demo ran: nobody can say what is right for them, so they are in no total."""


def balance(story: course.Story, root: str, slots: int, changed: Collection[str]) -> Account:
    """Compute the account. Files that `changed` meanwhile are left out of the totals."""
    jobs = [story.jobs[id] for id in story.paths if id in story.jobs]
    completed = [job for job in jobs if job.state == "completed"]
    results = {story.paths[job.id]: msgspec.convert(job.result, builtin.Inspection) for job in completed}
    began = min((job.submitted_at.timestamp() for job in jobs), default=0.0)
    ended = max((job.finished_at.timestamp() for job in jobs if job.finished_at), default=began)
    seconds = max(ended - began, 0.001)
    sure = {path: found for path, found in results.items() if path not in changed}
    return Account(
        root=root,
        submitted=len(story.paths),
        completed=len(completed),
        lost=_named(story, (id for id in story.paths if id not in story.jobs or not story.jobs[id].finished)),
        failed=_named(story, (job.id for job in jobs if job.finished and job.state != "completed")),
        started_again=_named(story, (job.id for job in jobs if job.fence > 1)),
        finished_twice=_named(story, (job.id for job in jobs if _finished_twice(story, job))),
        killed_while_running=len(story.worker.running),
        slots=slots,
        rescue_seconds=rescue_seconds(story),
        seconds=seconds,
        jobs_per_second=len(completed) / seconds,
        retries=story.retries,
        nodes={role: len(course.of_role(story.nodes, role)) for role in ("gateway", "worker")},
        totals=files.total(sure.items()),
        largest=sorted(results.items(), key=lambda pair: -pair[1].bytes)[:LARGEST],
        changed=sorted(changed),
    )


def faults(account: Account, story: course.Story, direct: files.Totals, nodes: dict[str, int]) -> list[str]:
    """Return what is not as promised, a line each; empty when all is well. `nodes` are how many of each role there should be."""
    return [
        *_said(account.lost, "lost"),
        *_said([path for path in account.failed if path not in account.changed], "failed"),
        *_said(account.finished_twice, "finished twice"),
        *_restarts(account, story),
        *(
            f"{name} of the results is {got}, counted directly it is {right}"
            for name, got, right in differences(account.totals, direct)
        ),
        *(
            f"{account.nodes[role]} nodes of role {role} were alive at the end, not {count}"
            for role, count in nodes.items()
            if account.nodes[role] != count
        ),
    ]


def differences(got: files.Totals, right: files.Totals) -> list[tuple[str, object, object]]:
    """Return (name, got, right) for each total that is not as it was counted directly."""
    names = files.Totals.__struct_fields__
    return [(name, getattr(got, name), getattr(right, name)) for name in names if getattr(got, name) != getattr(right, name)]


def rescue_seconds(story: course.Story) -> float:
    """Return the seconds from the worker's death until the last of its jobs was started elsewhere."""
    again = [story.details[job.id] for job in story.worker.running if job.id in story.details]
    starts = [job.started_at.timestamp() - story.worker.at for job in again if job.started_at]
    return max(0.0, *starts) if starts else 0.0


def _restarts(account: Account, story: course.Story) -> list[str]:
    """The jobs that the dead worker was running, and no others, were started again: once, and for that reason."""
    found = []
    running = {job.id for job in story.worker.running}
    again = {id for id, job in story.jobs.items() if job.fence > 1}
    if not running:
        found.append("the killed worker was running no job: the demo has shown nothing")
    if len(again) > account.slots:
        found.append(f"{len(again)} jobs were started again, and the killed worker had {account.slots} slots")
    found += _said(_named(story, again - running), "started again without a reason")
    found += _said(_named(story, running - again), "not started again after its worker was killed")
    found += _said(
        _named(story, (id for id in again if _reasons(story.details[id]) != ["worker_lost"])), "started again otherwise"
    )
    return found


def _reasons(job: shapes.JobDetail) -> list[str]:
    return [error.code for error in job.errors]


def _finished_twice(story: course.Story, job: shapes.Job) -> bool:
    seen = story.first_seen.get(job.id)
    return job.attempts > 1 or job.run > 1 or (seen is not None and seen != job)


def _named(story: course.Story, ids: Iterable[str]) -> list[str]:
    return sorted(story.paths.get(id, id) for id in ids)


def _said(paths: Sequence[str], what: str) -> list[str]:
    return [f"{what}: {', '.join(paths[:5])}{f' and {len(paths) - 5} more' if len(paths) > 5 else ''}"] if paths else []
