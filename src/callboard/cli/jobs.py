"""`callboard jobs`, `job`, `cancel`, `retry`: looking at jobs and steering them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

from cyclopts import Parameter

from callboard import errors
from callboard.cli import access, exits, follow, output
from callboard.http import shapes

Ids = Annotated[str, Parameter(help="Ids of jobs.")]


async def jobs(
    *,
    state: Annotated[tuple[str, ...], Parameter(help="Only jobs in this state; may be repeated.")] = (),
    kind: Annotated[str | None, Parameter(help="Only jobs of this kind.")] = None,
    queue: Annotated[str | None, Parameter(help="Only jobs of this queue.")] = None,
    tag: Annotated[str | None, Parameter(help="Only jobs with this tag.")] = None,
    limit: Annotated[int, Parameter(help="The most jobs to list. [50]")] = 50,
    to: access.Access = access.HERE,
) -> int:
    """List jobs, newest first.

    Piped columns: id, kind, queue, state, priority, attempts, submitted, started, finished, tags, reason.
    """
    if limit < 1:
        raise errors.InvalidInput(f"--limit {limit} is out of range: 1 or more")
    async with to.client() as gateways:
        found = [job async for job in gateways.jobs(state=state, kind=kind, queue=queue, tag=tag, limit=limit)]
    if to.json:
        output.document({"jobs": found})
        return exits.Exit.OK
    if output.on_terminal():
        output.table(("id", "kind", "state", "submitted", "took", ""), (_shown(job) for job in found))
    else:
        output.table((), (_piped(job) for job in found))
    return exits.Exit.OK


async def job(
    id: Annotated[str, Parameter(help="The job's id.")],
    /,
    *,
    follow_: Annotated[bool, Parameter(name=("--follow", "-f"), help="Show its progress until it is finished.")] = False,
    to: access.Access = access.HERE,
) -> int:
    """Show a job. With --follow, show its progress until it is finished; the exit code is 1 when it fails."""
    async with to.client() as gateways:
        found = await (follow.to_end(gateways, id, show=not to.json) if follow_ else gateways.get(id))
    if to.json:
        output.document(found)
    else:
        output.facts(_facts(found))
    return exits.Exit.FAILED if follow_ and found.state != "completed" else exits.Exit.OK


async def cancel(*ids: Ids, to: access.Access = access.HERE) -> int:
    """Cancel jobs. One that runs is asked to end: `cancel_requested`."""
    return await _moved("cancel", ids, to)


async def retry(*ids: Ids, to: access.Access = access.HERE) -> int:
    """Run finished jobs again, as a new run with all their attempts."""
    return await _moved("retry", ids, to)


async def _moved(verb: str, ids: tuple[str, ...], to: access.Access) -> int:
    """Steer one job after the other; those before a refused one stay as they became."""
    if not ids:
        raise errors.InvalidInput(f"there is no job to {verb}: give its id")
    moved: list[shapes.Moved] = []
    try:
        async with to.client() as gateways:
            for id in ids:
                state = await (gateways.cancel(id) if verb == "cancel" else gateways.retry(id))
                moved.append(shapes.Moved(id, state))
    finally:
        if to.json and moved:
            output.document({"jobs": moved})
        elif moved:
            output.table(("id", "state"), ((each.id, each.state) for each in moved))
    return exits.Exit.OK


def _shown(job: shapes.Job) -> tuple[Any, ...]:
    return job.id, job.kind, job.state, job.submitted_at, _took(job), _remark(job)


def _piped(job: shapes.Job) -> tuple[Any, ...]:
    return (
        job.id,
        job.kind,
        job.queue,
        job.state,
        job.priority,
        f"{job.attempts}/{job.max_attempts}",
        job.submitted_at,
        job.started_at,
        job.finished_at,
        ",".join(job.tags),
        job.reason,
    )


def _took(job: shapes.Job) -> str:
    """How long the latest attempt took or takes."""
    if job.started_at is None or not (job.finished or job.state == "running"):
        return ""
    return duration(((job.finished_at or datetime.now(UTC)) - job.started_at).total_seconds())


def _remark(job: shapes.Job) -> str:
    if job.cancel_requested:
        return "cancel requested"
    if job.state == "running" and job.progress is not None:
        return amount(job.progress)
    tried = f"{job.attempts} of {job.max_attempts} attempts" if job.attempts > (job.state == "completed") else ""
    return ", ".join(each for each in (job.reason, tried) if each)


def _facts(job: shapes.JobDetail) -> Iterator[tuple[str, Any]]:
    yield "id", job.id
    yield "kind", job.kind if job.version == 1 else f"{job.kind} (version {job.version})"
    yield "state", job.state
    yield "reason", job.reason
    yield "waiting", job.waiting_for
    yield "cancel", "requested" if job.cancel_requested else None
    yield "progress", amount(job.progress) if job.progress is not None and job.state != "completed" else None
    yield "domain", job.domain
    yield "queue", f"{job.queue}, {job.lane}, priority {job.priority}"
    yield "attempts", f"{job.attempts} of {job.max_attempts}"
    yield "run", f"{job.run}, started {job.fence} times" if job.run > 1 or job.fence > 1 else None
    yield "deaths", f"{job.deaths} of its workers died" if job.deaths else None
    yield "timeout", f"{job.timeout:g} s" if job.timeout is not None else None
    yield "tags", ", ".join(job.tags) or None
    yield "meta", job.meta or None
    yield "submitted", job.submitted_at
    yield "runs at", job.run_at if job.state in ("scheduled", "retryable") else None
    yield "started", job.started_at
    yield "finished", job.finished_at
    yield "took", _took(job) or None
    yield "node", job.node
    yield "args", job.args
    yield "result", job.result if job.result is not None else ("null" if job.state == "completed" else None)
    for error in job.errors:
        said = f"{error.type}: {error.message}" if error.type else error.message
        yield f"error {error.run}.{error.attempt}", f"{error.code} {said}".strip()
    if job.errors and output.on_terminal() and job.errors[-1].traceback:
        yield "traceback", None
        for line in job.errors[-1].traceback.splitlines():
            yield "", line


def amount(progress: shapes.Progress) -> str:
    """Write how far a job is: `3 of 10 (30%) note`."""
    done = f"{progress.done:g}"
    if progress.total > 0 and math.isfinite(progress.total):
        done = f"{progress.done:g} of {progress.total:g} ({progress.done / progress.total:.0%})"
    return f"{done} {progress.note}".strip()


def duration(seconds: float) -> str:
    """Write a duration as short as it is precise enough."""
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
