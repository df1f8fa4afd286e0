"""From how a handler ended to what is written: pure. `Failure` is what is left of an exception, small enough to travel."""

from __future__ import annotations

import asyncio
import traceback
from types import TracebackType
from typing import Final

import msgspec

from callboard import errors
from callboard.app import context, handler
from callboard.jobs import engine as seam
from callboard.jobs import model, states
from callboard.jobs.model import Reason
from callboard.kit import clock

MAX_FRAMES: Final = 40
"""Frames of a traceback that are formatted: the innermost ones."""
LATER: Final = "later"
STOPPED: Final = "stopped"
_OWN_FRAMES: Final = ("/callboard/roles/worker/", "/callboard/app/")


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """Why a handler did not return a usable result. `code` is one of `Reason`, or LATER or STOPPED."""

    code: str
    type: str = ""
    message: str = ""
    traceback: str = ""
    delay_seconds: float = 0


NOT_COMMITTED: Final = Failure(
    Reason.FAILED, "NotCommitted", "the handler called complete_in, and its transaction was not committed"
)
"""What is written when a handler returned after `complete_in`; it is refused if the job is completed."""


def failure(error: BaseException) -> Failure:
    """Return what is kept of an exception that a handler raised."""
    match error:
        case context.RetryLater():
            return Failure(LATER, message=_clean(error.reason), delay_seconds=error.delay_seconds)
        case context.Discard():
            return Failure(Reason.DISCARDED, "Discard", _clean(error.reason))
        case asyncio.CancelledError() | context.Cancelled():
            return Failure(STOPPED, type(error).__name__, _clean(_said(error)), _trace(error))
    return Failure(Reason.FAILED, type(error).__qualname__, _clean(_said(error)), _trace(error))


def refused(error: errors.CallboardError) -> Failure:
    """Return the failure of a job whose stored arguments do not fit its handler."""
    return Failure(Reason.INVALID_ARGUMENTS, type(error).__name__, _clean(error.message))


def encoded(declared: handler.Handler, value: object, limit: int) -> bytes | Failure | None:
    """Return a handler's result encoded, or why it cannot be kept; `limit` in bytes."""
    try:
        return declared.result.encode_within(limit, value)
    except errors.InvalidInput as error:
        return Failure(Reason.INVALID_RESULT, type(error).__name__, _clean(error.message))


def completed(job: model.Job, result: bytes | None, now: int) -> seam.Settle:
    """Return the end of a claim whose handler returned."""
    return seam.Settle(job.domain, job.id, job.node or b"", job.fence, states.succeeded(job, result, now).outcome)


def failed(job: model.Job, failure: Failure, now: int) -> seam.Settle:
    """Return the end of a claim whose handler failed."""
    match failure.code:
        case "later":
            delay = min(failure.delay_seconds * clock.SECOND, states.MAX_POSTPONED)  # Of which the first may be infinite.
            return _settle(job, states.postponed(job, round(delay), now))
        case Reason.DISCARDED | Reason.INVALID_ARGUMENTS | Reason.INVALID_RESULT:
            end = states.discarded
        case _:
            end = states.failed
    code = Reason.FAILED if failure.code == STOPPED else failure.code
    return _settle(job, end(job, now, code=code, type=failure.type, message=failure.message, traceback=failure.traceback))


def timed_out(job: model.Job, failure: Failure | None, now: int) -> seam.Settle:
    """Return the end of a claim whose handler was stopped by its timeout; `failure` is what it raised on its way out."""
    limit = (job.timeout or 0) / clock.SECOND
    trace = "" if failure is None else failure.traceback
    message = f"not finished after its timeout of {limit:g} s"
    return _settle(job, states.failed(job, now, code=Reason.TIMEOUT, type="TimeoutError", message=message, traceback=trace))


def wished(job: model.Job, now: int) -> seam.Settle:
    """Return the end of a claim whose handler ended on somebody's wish."""
    return _settle(job, states.stopped(job, now))


def released(job: model.Job, now: int) -> seam.Release:
    """Return the handing back of a claim."""
    return seam.Release(job.domain, job.id, job.node or b"", job.fence, now)


def _settle(job: model.Job, ended: states.Ended) -> seam.Settle:
    return seam.Settle(job.domain, job.id, job.node or b"", job.fence, ended.outcome, ended.if_cancelled, ended.error)


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:
        return f"(its text cannot be read: {type(error).__name__}.__str__ failed)"


def _trace(error: BaseException) -> str:
    """The traceback from the handler's first frame on, bounded; formatting must not fail a second time."""
    try:
        trace = _handlers_own(error.__traceback__)
        shown = traceback.TracebackException(type(error), error, trace, limit=-MAX_FRAMES, compact=True)
        return _clean("".join(shown.format())[-model.MAX_TRACEBACK :])
    except Exception as second:
        return f"(the traceback cannot be shown: {type(second).__name__})"


def _handlers_own(trace: TracebackType | None) -> TracebackType | None:
    first = trace
    while trace is not None and any(own in trace.tb_frame.f_code.co_filename for own in _OWN_FRAMES):
        trace = trace.tb_next
    return trace or first


def _clean(text: str) -> str:
    """Text that every store takes: no lone surrogates, no NUL."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")
