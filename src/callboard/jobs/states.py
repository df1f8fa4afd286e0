"""How a job moves: pure functions from (job, what happened, now) to what is written. Engines store what is decided here.

    scheduled ──▶ available ──▶ running ──▶ completed | discarded | cancelled
                      ▲            │
                      └─ retryable ◀┘        pending (waits for its parents) ──▶ available

The end of a claim is an `Outcome` for each of two cases: `outcome`, and `if_cancelled` when somebody asked for the
cancellation of the running job meanwhile (only the store knows that at the moment of the write). Success after such a wish
is a success; everything else after it is `cancelled`. A terminal state changes in one way only: `retried`.
"""

from __future__ import annotations

import hashlib

import msgspec

from callboard.jobs import model
from callboard.jobs.engine import Outcome
from callboard.jobs.model import Job, Reason, State

MAX_BACKOFF = 3_600 * 1_000_000
"""Microseconds that a delay between attempts never exceeds."""
MAX_POSTPONED = 10 * 366 * 86_400 * 1_000_000
"""The same for one that a handler asked for: as far as a submission may lie ahead. A greater time fits no store."""
MAX_TYPE = 256
"""Characters kept of the name of an exception's class."""


class Ended(msgspec.Struct, frozen=True, gc=False):
    """How a claim ends: what to write, what to write instead after a wish to cancel, and the error to append."""

    outcome: Outcome
    if_cancelled: Outcome | None = None
    error: model.AttemptError | None = None


def submitted(job: Job, now: int) -> Job:
    """Return the job as it enters the store: scheduled when its `run_at` lies ahead, else available, ready since now."""
    state, run_at = entered(job.run_at, now)
    return msgspec.structs.replace(job, state=state, submitted_at=now, run_at=run_at)


def entered(run_at: int, now: int) -> tuple[State, int]:
    """Return the state in which a job enters the store, and its `run_at`; see `submitted`."""
    return (State.SCHEDULED, run_at) if run_at > now else (State.AVAILABLE, now)


def claimed(job: Job, node: bytes, now: int) -> Job:
    """Return the job as a claim leaves it."""
    return msgspec.structs.replace(
        job, state=State.RUNNING, fence=job.fence + 1, node=node, started_at=now, progress=None, reason=None
    )


def succeeded(job: Job, result: bytes | None, now: int) -> Ended:
    """The handler returned."""
    return Ended(Outcome(State.COMPLETED, job.run_at, job.attempts + 1, job.deaths, finished_at=now, result=result))


def failed(job: Job, now: int, *, code: str = Reason.FAILED, type: str = "", message: str = "", traceback: str = "") -> Ended:
    """The handler raised, or ran out of time (code `timeout`): another attempt after a delay, or discarded after the last one."""
    attempts = job.attempts + 1
    if attempts >= job.max_attempts:
        outcome = _finished(job, State.DISCARDED, Reason.ATTEMPTS_EXHAUSTED, now, attempts)
    else:
        outcome = Outcome(State.RETRYABLE, now + backoff(job, attempts), attempts, job.deaths)
    return _ended(job, outcome, attempts, now, code, type, message, traceback)


def discarded(
    job: Job, now: int, *, code: str = Reason.DISCARDED, type: str = "", message: str = "", traceback: str = ""
) -> Ended:
    """The handler asked to give up, or its arguments or result cannot be used: no further attempt, whatever is left of them."""
    attempts = job.attempts + 1
    outcome = _finished(job, State.DISCARDED, code, now, attempts)
    return _ended(job, outcome, attempts, now, code, type, message, traceback)


def postponed(job: Job, delay: int, now: int) -> Ended:
    """The handler asked to be run again after `delay` microseconds: not counted as an attempt."""
    outcome = Outcome(State.RETRYABLE, now + min(max(delay, 0), MAX_POSTPONED), job.attempts, job.deaths)
    return Ended(outcome, _finished(job, State.CANCELLED, Reason.CANCELLED, now, job.attempts))


def stopped(job: Job, now: int) -> Ended:
    """The handler ended because it was cancelled on somebody's wish: no attempt counted."""
    outcome = _finished(job, State.CANCELLED, Reason.CANCELLED, now, job.attempts)
    return Ended(outcome, outcome)


def released(job: Job, now: int) -> Ended:
    """The node hands the job back unfinished, as when it drains: nothing counted, its place in the order kept."""
    outcome = Outcome(State.AVAILABLE, job.run_at, job.attempts, job.deaths)
    return Ended(outcome, _finished(job, State.CANCELLED, Reason.CANCELLED, now, job.attempts))


def died(job: Job, now: int) -> Ended:
    """The node that ran it is dead: available at once, or discarded as `worker_lost` at the third death of its run."""
    deaths = job.deaths + 1
    if deaths >= model.MAX_DEATHS:
        outcome = Outcome(State.DISCARDED, job.run_at, job.attempts, deaths, finished_at=now, reason=Reason.WORKER_LOST)
    else:
        outcome = Outcome(State.AVAILABLE, job.run_at, job.attempts, deaths)
    wished = Outcome(State.CANCELLED, job.run_at, job.attempts, deaths, finished_at=now, reason=Reason.CANCELLED)
    error = model.AttemptError(
        run=job.run,
        fence=job.fence,
        attempt=job.attempts + 1,
        code=Reason.WORKER_LOST,
        message="the node that ran this job died",
        at=now,
        node=job.node,
    )
    return Ended(outcome, wished, error)


def settled(job: Job, ended: Ended) -> Job:
    """Return a running job after its claim ended so, a wish to cancel considered."""
    chosen = ended.if_cancelled if job.cancel_requested and ended.if_cancelled is not None else ended.outcome
    return msgspec.structs.replace(
        job,
        state=chosen.state,
        run_at=chosen.run_at,
        attempts=chosen.attempts,
        deaths=chosen.deaths,
        finished_at=chosen.finished_at,
        result=chosen.result,
        reason=chosen.reason,
        node=None,
        cancel_requested=False,
        progress=job.progress if chosen.state in model.TERMINAL else None,
    )


def cancelled(job: Job, now: int) -> Job | None:
    """Return the job after a person asked to cancel it (running: with the wish), or None if it is finished."""
    if job.state == State.RUNNING:
        return msgspec.structs.replace(job, cancel_requested=True)
    if job.state in model.WAITING:
        return msgspec.structs.replace(job, state=State.CANCELLED, finished_at=now, reason=Reason.CANCELLED, result=None)
    return None


def retried(job: Job, now: int, run: int | None = None) -> Job | None:
    """Return the job after a person retried it: a new run, available now; or None if it is not finished, or not in `run`."""
    if job.state not in model.TERMINAL or run not in (None, job.run):
        return None
    return msgspec.structs.replace(
        job,
        state=State.AVAILABLE,
        run=job.run + 1,
        attempts=0,
        deaths=0,
        run_at=now,
        finished_at=None,
        result=None,
        reason=None,
        progress=None,
    )


def promoted(job: Job, now: int) -> Job | None:
    """Return a due scheduled or retryable job as available, its `run_at` kept; None when it is not due."""
    if job.state in (State.SCHEDULED, State.RETRYABLE) and job.run_at <= now:
        return msgspec.structs.replace(job, state=State.AVAILABLE)
    return None


def backoff(job: Job, attempt: int) -> int:
    """Return the microseconds before the attempt after `attempt`: the job's own delay doubled each time, ±25 %, an hour at most.

    The jitter comes from (id, run, attempt) alone, so that a decision made twice is the same.
    """
    delay = min(job.backoff << min(attempt - 1, 40), MAX_BACKOFF)
    seed = hashlib.blake2b(job.id + bytes([job.run & 255]) + attempt.to_bytes(4, "big"), digest_size=4)
    spread = int.from_bytes(seed.digest(), "big") / (1 << 32)
    return min(round(delay * (0.75 + spread / 2)), MAX_BACKOFF)


def _finished(job: Job, state: State, reason: str, now: int, attempts: int) -> Outcome:
    return Outcome(state, job.run_at, attempts, job.deaths, finished_at=now, reason=reason)


def _ended(job: Job, outcome: Outcome, attempts: int, now: int, code: str, type: str, message: str, traceback: str) -> Ended:
    error = model.AttemptError(
        run=job.run,
        fence=job.fence,
        attempt=attempts,
        code=code,
        type=_storable(type[:MAX_TYPE]),
        message=_storable(message[: model.MAX_MESSAGE]),
        traceback=_storable(traceback[-model.MAX_TRACEBACK :]),
        at=now,
        node=job.node,
    )
    return Ended(outcome, _finished(job, State.CANCELLED, Reason.CANCELLED, now, attempts), error)


def _storable(text: str) -> str:
    """Return text with lone surrogates (an undecodable file name in a message has them) written out: no store takes them."""
    return text.encode("utf-8", "backslashreplace").decode()
