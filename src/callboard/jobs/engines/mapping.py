"""How rows become jobs, wherever stores keep them in tables: columns, routes, values. Pure. What jobs are written with is each
store's own.

A **route** stands for (domain, queue, lane, kind, version): jobs carry its number, so that the index of what is ready leads with
exactly what a claim asks for and stays small.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from callboard.jobs import engine as seam
from callboard.jobs import model

COLUMNS: Final = (
    "id, route, state, priority, run_at, fence, run, attempts, max_attempts, deaths, node, cancel_requested, codec,"
    " digest, args, tags, meta, backoff, timeout, submitted_at, started_at, finished_at, result, reason, progress"
)
"""What a job is read from, in the order that `job` takes it."""

STATES: Final = tuple([model.State(1), *model.State])
"""A state by its number (index 0 is never used): faster than calling the enumeration."""

RouteKey = tuple[str, str, model.Lane, str, int]
"""(domain, queue, lane, kind, version)"""

_progress = msgspec.json.Decoder(model.Progress)
meta = msgspec.json.Decoder(dict[str, str]).decode
"""Read what is stored of a job's meta."""
encode = msgspec.json.Encoder().encode
"""Write what is stored of a job's meta or progress."""


class Route(msgspec.Struct, frozen=True):
    """What a route's number stands for; `domain` is the domain's number."""

    route: int
    domain: int
    name: str
    queue: str
    lane: model.Lane
    kind: str
    version: int


def key(job: model.Job) -> RouteKey:
    """Return what tells a job's route from others."""
    return job.domain, job.queue, job.lane, job.kind, job.version


def named(take: seam.Take) -> list[RouteKey]:
    """Return the routes that a take names."""
    return [(take.domain, take.queue, take.lane, kind, version) for kind, versions in take.kinds for version in versions]


def job(row: Any, route: Route) -> model.Job:
    """Return the job of a row of COLUMNS."""
    return model.Job(
        id=row[0],
        kind=route.kind,
        domain=route.name,
        queue=route.queue,
        lane=route.lane,
        version=route.version,
        state=STATES[row[2]],
        priority=row[3],
        run_at=row[4],
        fence=row[5],
        run=row[6],
        attempts=row[7],
        max_attempts=row[8],
        deaths=row[9],
        node=row[10],
        cancel_requested=bool(row[11]),
        codec=row[12],
        digest=row[13],
        args=row[14],
        tags=tuple(row[15].split(",")) if row[15] else (),
        meta=meta(row[16]) if row[16] else {},
        backoff=row[17],
        timeout=row[18],
        submitted_at=row[19],
        started_at=row[20],
        finished_at=row[21],
        result=row[22],
        reason=row[23],
        progress=_progress.decode(row[24]) if row[24] else None,
    )


def progress(value: model.Progress | None) -> str | None:
    """Return what is stored of a progress."""
    return None if value is None else encode(value).decode()
