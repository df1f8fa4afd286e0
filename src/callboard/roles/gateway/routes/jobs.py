"""Routes of jobs: submit, look, wait, list, cancel, retry."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath, FromQuery, QueryParameter, RawBody

from callboard import errors
from callboard.http import shapes
from callboard.jobs import engine as seam
from callboard.jobs import model, submission
from callboard.kit import uuid7
from callboard.roles.gateway import desk as desks
from callboard.roles.gateway import intake, keys, views, waits

MAX_PAGE: Final = 1000
FOUND_AT_ONCE: Final = 50
MAX_LOOKS: Final = 40
"""Reads of the store that one page of a list may take: an engine's own page may be short where a filter hits little."""
MAX_PAGE_BYTES: Final = 4 << 20
"""Bytes of arguments and results in one page, about."""

Wait = Annotated[float, QueryParameter(ge=0, le=waits.MAX_SECONDS, description="Seconds to wait for the job to finish.")]
Limit = Annotated[
    int, QueryParameter(ge=1, le=MAX_PAGE, description="The most jobs to return; there may be fewer and still a cursor.")
]
States = Annotated[list[str] | None, QueryParameter(name="state", description="States, repeated or with commas.")]
Run = Annotated[int | None, QueryParameter(ge=1, description="The run that the caller saw: makes the request safe to repeat.")]

_watch = msgspec.json.Decoder(shapes.Watch)


@post(
    "/v1/jobs",
    summary="Submit a job",
    description="Answers 201 once the job is stored durably, 200 when an equal job of this id was there already.",
    opt={"scope": keys.SUBMIT, "body": submission.Submission, "returns": shapes.Receipt},
)
async def submit(desk: desks.TheDesk, caller: desks.TheCaller, body: RawBody) -> Response[bytes]:
    status, receipt = await intake.one(desk, caller.grant, caller.domain, body)
    return Response(receipt, status_code=status, media_type="application/json")


@post(
    "/v1/jobs/batch",
    status_code=200,
    summary="Submit up to 10,000 jobs",
    description="All are checked first: one bad job refuses the batch with 422 and its index. Then a result for each; 503 when a"
    " full store takes none of them.",
    opt={"scope": keys.SUBMIT, "body": intake.Batch, "returns": shapes.BatchResults},
)
async def submit_batch(desk: desks.TheDesk, caller: desks.TheCaller, body: RawBody) -> Response[bytes]:
    return Response(await intake.many(desk, caller.grant, caller.domain, body), media_type="application/json")


@post(
    "/v1/jobs/wait",
    status_code=200,
    summary="Wait for the first of several jobs",
    description="Answers as soon as some of up to 1,000 jobs are finished, with those; or with none when the time is over.",
    opt={"scope": keys.READ, "body": shapes.Watch},
)
async def wait_for_some(desk: desks.TheDesk, caller: desks.TheCaller, body: RawBody) -> shapes.Finished:
    watch = intake.read(body, _watch)
    if len(watch.ids) > waits.MAX_IDS:
        raise errors.InvalidInput(f"{len(watch.ids)} ids are too many for one wait: give {waits.MAX_IDS} at most")
    if not 0 <= watch.seconds <= waits.MAX_SECONDS:
        raise errors.InvalidInput(f"seconds {watch.seconds} is out of range: 0 to {waits.MAX_SECONDS:g}")
    seen = await desk.waits.some(caller.domain, [views.job_id(id) for id in watch.ids], watch.seconds)
    return shapes.Finished([views.job(job) for job in seen.finished], [uuid7.text(id) for id in seen.absent])


@get("/v1/jobs/{job_id:str}", summary="Look at a job, or wait for its end", opt={"scope": keys.READ})
async def look(desk: desks.TheDesk, caller: desks.TheCaller, job_id: FromPath[str], wait: Wait = 0.0) -> shapes.JobDetail:
    id = views.job_id(job_id)
    job = await (desk.waits.one(caller.domain, id, wait) if wait else desk.queue.get(caller.domain, id))
    if job is None:
        raise _not_found(job_id)
    failures = await desk.queue.attempt_errors(caller.domain, id) if _may_have_errors(job) else []
    return views.detail(job, failures, await desk.roster.waiting_for(job))


@get("/v1/jobs", summary="List jobs, newest first", opt={"scope": keys.READ})
async def find(
    desk: desks.TheDesk,
    caller: desks.TheCaller,
    states: States = None,
    kind: FromQuery[str | None] = None,
    queue: FromQuery[str | None] = None,
    tag: FromQuery[str | None] = None,
    subtree: FromQuery[bool] = False,
    limit: Limit = 50,
    cursor: FromQuery[str | None] = None,
) -> shapes.Jobs:
    filter = seam.Filter(domain=caller.domain, subtree=subtree, states=_states(states), kind=kind, queue=queue, tag=tag)
    page = await _page(desk, filter, limit, views.cursor_bytes(cursor))
    return shapes.Jobs([views.job(job) for job in page.jobs], views.cursor_text(page.cursor))


@post("/v1/jobs/{job_id:str}/cancel", status_code=200, summary="Cancel a job", opt={"scope": keys.MANAGE})
async def cancel(desk: desks.TheDesk, caller: desks.TheCaller, job_id: FromPath[str]) -> shapes.Moved:
    try:
        state = await desk.queue.cancel(caller.domain, views.job_id(job_id))
    except errors.StateRefused as error:
        if error.data.get("state") != model.State.CANCELLED.word:
            raise
        state = model.State.CANCELLED  # asked for twice, as after a lost answer: it is as it was to be
    return shapes.Moved(job_id, "cancel_requested" if state is model.State.RUNNING else state.word)


@post("/v1/jobs/{job_id:str}/retry", status_code=200, summary="Run a finished job again", opt={"scope": keys.MANAGE})
async def retry(desk: desks.TheDesk, caller: desks.TheCaller, job_id: FromPath[str], run: Run = None) -> shapes.Moved:
    id = views.job_id(job_id)
    if run is not None:
        job = await desk.queue.get(caller.domain, id)
        if job is None:
            raise _not_found(job_id)
        if job.run == run + 1:
            return shapes.Moved(job_id, job.state.word)  # this very request was carried out before
        if job.run != run:
            raise errors.StateRefused(
                f"job {job_id} is in run {job.run}, not {run}: look at it again", state=job.state.word, run=job.run
            )
    return shapes.Moved(job_id, (await desk.queue.retry(caller.domain, id, run)).word)


async def _page(desk: desks.TheDesk, filter: seam.Filter, limit: int, cursor: bytes | None) -> seam.Page:
    """Put a page together from small reads, so that neither a big result nor a rare hit makes it unbounded."""
    jobs: list[model.Job] = []
    size = 0
    for _ in range(MAX_LOOKS):
        page = await desk.queue.find(filter, min(limit - len(jobs), FOUND_AT_ONCE), cursor)
        jobs += page.jobs
        size += sum(len(job.args) + len(job.result or b"") for job in page.jobs)
        cursor = page.cursor
        if cursor is None or len(jobs) >= limit or size > MAX_PAGE_BYTES:
            break
    return seam.Page(jobs, cursor)


def _states(words: list[str] | None) -> frozenset[model.State] | None:
    if words is None:
        return None
    given = [word for text in words for word in text.split(",") if word]
    for word in given:
        if word not in model.WORDS:
            raise errors.InvalidInput(f"state {word!r:.40} is unknown: known are {', '.join(model.WORDS)}")
    return frozenset(model.WORDS[word] for word in given) or None


def _may_have_errors(job: model.Job) -> bool:
    """Tell whether it is worth a read of the errors' table: most jobs succeed the first time."""
    return job.run > 1 or job.deaths > 0 or job.attempts > (job.state is model.State.COMPLETED) or job.fence > 1


def _not_found(job_id: FromPath[str]) -> errors.JobNotFound:
    return errors.JobNotFound(f"no job {job_id}: it never was, it was purged, or it is of another domain")


HANDLERS: list[Any] = [submit, submit_batch, wait_for_some, look, find, cancel, retry]
