"""Submissions as they come in over HTTP: from the bytes of a body to stored jobs and the bytes of an answer.

Works on bytes at both ends, since it is the busiest thing that a gateway does: the edge calls `one` without any framework around
it. Concurrent submissions share commits in the queue. Nothing is stored before everything in a body was found valid.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec

from callboard import errors
from callboard.http import shapes
from callboard.jobs import engine as seam
from callboard.jobs import model, submission
from callboard.kit import uuid7
from callboard.roles.gateway import desk as desks
from callboard.roles.gateway import keys, problems

MAX_BATCH_JOBS: Final = 10_000
BREATH: Final = 250
"""Jobs of a batch that are checked before other requests get their turn."""

T = TypeVar("T")


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    jobs: list[msgspec.Raw]


class Batch(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/jobs/batch`, as the documentation shows it."""

    jobs: list[submission.Submission]


_one = msgspec.json.Decoder(submission.Submission)
_batch = msgspec.json.Decoder(_Batch)
_encode = msgspec.json.encode
_at = re.compile(r" - at `\$\.?(.*)`$")


def read(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode a body, or raise InvalidInput saying in one line what is wrong with it."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        text = str(error)
        found = _at.search(text)
        if found is not None:
            text = f"{found[1] or 'the body'}: {text[: found.start()]}"
        raise errors.InvalidInput(f"the body does not fit: {text}; /docs shows its shape") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise problems.Malformed(f"the body is not JSON: {error}") from None


async def one(desk: desks.Desk, grant: keys.Grant, domain: str, body: bytes) -> tuple[int, bytes]:
    """Store the job that a body describes; return the status (201 created, 200 was there) and the receipt in JSON.

    Raises InvalidInput and what is below it, Forbidden, IdConflict, IdExpired, StoreError.
    """
    job = _build(desk, grant, domain, read(body, _one))
    (result,) = await desk.queue.submit((job,))
    if type(result) is seam.Created:
        return 201, _receipt(job, job.state, b"true")
    if type(result) is seam.Same:
        return 200, _receipt(job, result.state, b"false")
    raise submission.refused(job, result)


async def many(desk: desks.Desk, grant: keys.Grant, domain: str, body: bytes) -> bytes:
    """Store the jobs of a batch; return a result for each in JSON: a receipt, or why it was refused.

    All are checked before any is stored. Raises what `one` does for the first bad one, with its `index` in the error's data;
    conflicts with jobs of the store are results, not errors, and so is what a full store takes no more. StoreFull when it takes
    none of them: then all of it may be sent again later.
    """
    given = read(body, _batch).jobs
    if len(given) > MAX_BATCH_JOBS:
        raise errors.InvalidInput(
            f"{len(given)} jobs are too many for one batch: send {MAX_BATCH_JOBS} at most", limit=MAX_BATCH_JOBS
        )
    jobs = await _build_all(desk, grant, domain, given)
    results = await desk.queue.submit(jobs) if jobs else []
    if jobs and all([type(result) is seam.Full for result in results]):
        raise submission.refused(jobs[0], results[0])
    return b'{"results":[' + b",".join([_result(job, result) for job, result in zip(jobs, results, strict=True)]) + b"]}"


async def _build_all(desk: desks.Desk, grant: keys.Grant, domain: str, given: Sequence[msgspec.Raw]) -> list[model.Job]:
    jobs = []
    for index, raw in enumerate(given):
        if index % BREATH == BREATH - 1:
            await asyncio.sleep(0)
        try:
            jobs.append(_build(desk, grant, domain, read(raw, _one)))
        except errors.CallboardError as error:
            raise type(error)(f"job {index} of the batch: {error.message}", **(error.data | {"index": index})) from None
    return jobs


def _build(desk: desks.Desk, grant: keys.Grant, domain: str, given: submission.Submission) -> model.Job:
    if given.domain is None:
        given.domain = domain
    else:
        grant.check_domain(given.domain)
    return submission.build(given, desk.kinds, desk.queue.clock.now())


def _receipt(job: model.Job, state: model.State, created: bytes) -> bytes:
    # Nothing here needs escaping: ids, domains and states are letters, digits, '-', '.' and '_'.
    return b'{"id":"%b","domain":"%b","state":"%b","created":%b}' % (
        uuid7.text(job.id).encode(),
        job.domain.encode(),
        state.word.encode(),
        created,
    )


def _result(job: model.Job, result: seam.Result) -> bytes:
    if type(result) is seam.Created:
        return _receipt(job, job.state, b"true")
    if type(result) is seam.Same:
        return _receipt(job, result.state, b"false")
    error = submission.refused(job, result)
    return _encode(shapes.Refused(uuid7.text(job.id), shapes.Refusal(error.code, error.message)))
