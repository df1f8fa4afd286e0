"""What the tables hold, whatever the product: lists of columns, and how jobs become rows (and rows jobs: `jobs.engines.mapping`).

Jobs carry the numbers of their routes. `sort` is the place of a job among those of its route and state: the index (state, route,
sort, seq) answers who is next, who is due, who runs and who finished first. `callboard_counts` holds how many jobs of a route are
in a state; each commit adds its differences in a slot of its own, so that commits of different processes do not wait for each
other.

The numbers of `model.State` stand in the texts: 1 scheduled, 2 available, 3 running, 4 retryable, 5 pending, 6 to 8 terminal.
"""

from __future__ import annotations

from typing import Any, Final

from callboard.jobs import model
from callboard.jobs.engines import mapping

VERSION: Final = 1
"""Version of this schema: that of the last of the `migrations`."""

INSERTED: Final = (
    "domain, id, route, state, sort, priority, run_at, fence, run, max_attempts, codec, digest, args, tags, meta, backoff,"
    " timeout, submitted_at"
)
"""What a new job is written with, in the order of `inserted`."""

INSERTED_CLAIMED: Final = f"{INSERTED}, node, started_at"
"""The same where one of the new jobs is claimed already, in the order of `inserted_claimed`."""

CLAIMED: Final = (
    "seq, domain, id, route, priority, run_at, fence, run, attempts, max_attempts, deaths, codec, digest, args, tags, meta,"
    " backoff, timeout, submitted_at"
)
"""What a claim returns, in the order that `claimed` takes it."""

ENDED: Final = "seq, fence, state, sort, run_at, attempts, deaths, finished_at, result, reason"
"""What a claim that ends is written with."""

UPDATE: Final = (
    "UPDATE callboard_jobs SET state = %s, sort = %s, priority = %s, run_at = %s, fence = %s, run = %s, attempts = %s,"
    " deaths = %s, node = %s, cancel_requested = %s, started_at = %s, finished_at = %s, result = %s, reason = %s,"
    " progress = %s WHERE seq = %s"
)
"""Writes all of a job that may change, in the order of `updated`; its row is locked."""

PRIORITY: Final = 1 << 56
"""By how much a priority moves a job in the order of its route: over a thousand years."""

Row = tuple[Any, ...]


def sort(state: model.State, priority: int, run_at: int, finished_at: int | None) -> int:
    """Return the place of a job among those of its route and state."""
    if state is model.State.AVAILABLE:
        return priority * PRIORITY + run_at
    return run_at if finished_at is None else finished_at


def inserted(job: model.Job, domain: int, route: int) -> Row:
    """Return the values of INSERTED."""
    return (
        domain,
        job.id,
        route,
        int(job.state),
        sort(job.state, job.priority, job.run_at, None),
        job.priority,
        job.run_at,
        job.fence,
        job.run,
        job.max_attempts,
        job.codec,
        job.digest,
        job.args,
        ",".join(job.tags) if job.tags else None,
        mapping.encode(job.meta).decode() if job.meta else None,
        job.backoff,
        job.timeout,
        job.submitted_at,
    )


def inserted_claimed(job: model.Job, domain: int, route: int) -> Row:
    """Return the values of INSERTED_CLAIMED."""
    return (*inserted(job, domain, route), job.node, job.started_at)


def updated(seq: int, job: model.Job) -> Row:
    """Return the values of UPDATE."""
    return (
        int(job.state),
        sort(job.state, job.priority, job.run_at, job.finished_at),
        job.priority,
        job.run_at,
        job.fence,
        job.run,
        job.attempts,
        job.deaths,
        job.node,
        int(job.cancel_requested),
        job.started_at,
        job.finished_at,
        job.result,
        job.reason,
        mapping.progress(job.progress),
        seq,
    )


def claimed(row: Any, route: mapping.Route, node: bytes, now: int) -> model.Job:
    """Return the job of a row of CLAIMED."""
    _, _, id, _, priority, run_at, fence, run, attempts, max_attempts, deaths, codec, digest, args, tags, meta, *rest = row
    backoff, timeout, submitted_at = rest
    return model.Job(
        id=id,
        kind=route.kind,
        domain=route.name,
        queue=route.queue,
        lane=route.lane,
        version=route.version,
        state=model.State.RUNNING,
        priority=priority,
        run_at=run_at,
        fence=fence,
        run=run,
        attempts=attempts,
        max_attempts=max_attempts,
        deaths=deaths,
        node=node,
        codec=codec,
        digest=digest,
        args=args,
        tags=tuple(tags.split(",")) if tags else (),
        meta=mapping.meta(meta) if meta else {},
        backoff=backoff,
        timeout=timeout,
        submitted_at=submitted_at,
        started_at=now,
    )


def error(e: model.AttemptError) -> Row:
    """Return what is stored of an error, after its job's (domain, id). Texts as bytes: not every store takes every character."""
    return e.run, e.fence, e.attempt, e.code, e.type.encode(), e.message.encode(), e.traceback.encode(), e.at, e.node


def attempt_error(row: Any) -> model.AttemptError:
    """Return the error of a row, read as `error` writes it."""
    run, fence, attempt, code, type, message, traceback, at, node = row
    return model.AttemptError(
        run=run,
        fence=fence,
        attempt=attempt,
        code=code,
        type=type.decode(),
        message=message.decode(),
        traceback=traceback.decode(),
        at=at,
        node=node,
    )
