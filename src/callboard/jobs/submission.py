"""From what a submitter says to a job that can be stored: defaults, checks, encoding, digest. The same for every way in."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from callboard import errors
from callboard.jobs import engine as seam
from callboard.jobs import model, replies, states
from callboard.jobs.kinds import Kind
from callboard.kit import clock, codec, grammar, uuid7

MAX_DELAY = 10 * 366 * 86_400
"""Seconds that a job may be delayed."""


class Submission(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is said of a job at submission; the body of `POST /v1/jobs`. What is left out comes from the kind's declaration."""

    kind: str
    args: dict[str, Any] = {}
    id: str | None = None
    """A UUIDv7 made by the submitter, so that a repeated request makes no second job."""
    domain: str | None = None
    queue: str | None = None
    lane: str | None = None
    """`short` or `long`."""
    version: int | None = None
    priority: int | None = None
    """0 (first) to 9 (last)."""
    delay: float | None = None
    """Seconds to wait; or `run_at`, not both."""
    run_at: datetime | None = None
    attempts: int | None = None
    backoff: float | None = None
    timeout: float | None = None
    tags: tuple[str, ...] | None = None
    meta: dict[str, str] | None = None


_UNDECLARED = Kind(name="undeclared")
_UNSAID = (None,) * 11


def build(
    given: Submission, kinds: Mapping[str, Kind], now: int, *, id: bytes | None = None, max_payload: int = model.MAX_PAYLOAD
) -> model.Job:
    """Return the job that a submission makes at `now` (microseconds UTC). `id` is what it gets when it names none.

    A kind found in `kinds` gives the defaults and checks the arguments; another one is taken on trust, with general defaults.
    Raises InvalidInput (and what is below it) naming the field; TooLarge for arguments over `max_payload` bytes.
    """
    if not isinstance(given.args, dict):
        raise errors.InvalidArguments(f"args {given.args!r:.40} are not named: give a mapping from names to values")
    kind = kinds.get(given.kind)
    if kind is None:
        model.check_kind(given.kind)
        kind = _UNDECLARED
    checked = None if kind.check is None else kind.check(given.args)
    said = codec.pack(given.args, "args")
    args = said if checked is None else checked
    if len(args) > max_payload:
        raise errors.TooLarge(
            f"the arguments take {len(args)} bytes, the limit is {max_payload}: put big data into a file and pass its name",
            limit=max_payload,
        )
    state, run_at = states.entered(now if given.run_at is None and given.delay is None else _run_at(given, now), now)
    timeout = given.timeout if given.timeout is not None else kind.timeout
    return model.Job(
        id=(id or uuid7.make(now)) if given.id is None else _id(given.id, now),
        kind=given.kind,
        domain=grammar.DEFAULT_DOMAIN if given.domain is None else grammar.check_domain(given.domain),
        queue=kind.queue if given.queue is None else grammar.check_label(given.queue, "queue"),
        lane=kind.lane if given.lane is None else _lane(given.lane),
        version=kind.version if given.version is None else _between(given.version, 1, 1_000_000, "version"),
        priority=kind.priority if given.priority is None else _between(given.priority, 0, 9, "priority"),
        args=args,
        tags=kind.tags if given.tags is None else model.check_tags(given.tags),
        meta={} if given.meta is None else _meta(given.meta),
        max_attempts=kind.attempts if given.attempts is None else _between(given.attempts, 1, model.MAX_ATTEMPTS, "attempts"),
        backoff=_declared(kind.backoff) if given.backoff is None else _micros(given.backoff, 0, 3_600, "backoff"),
        timeout=None if timeout is None else _micros(timeout, 0.001, 30 * 86_400, "timeout"),
        digest=_digest(given, said),
        state=state,
        run_at=run_at,
        submitted_at=now,
    )


def refused(job: model.Job, result: seam.Result, **data: Any) -> errors.CallboardError:
    """Return the error that tells why a valid job was not stored: its Put met Conflict, Full or Stale. `data` goes with it."""
    id = uuid7.text(job.id)
    if isinstance(result, seam.Conflict):
        return errors.IdConflict(
            f"job {id} exists with another kind, other arguments or options: make a new id for new work",
            id=id,
            state=result.state.word,
            **data,
        )
    if isinstance(result, seam.Full):
        return errors.StoreFull(
            f"the store holds its limit of {result.limit} jobs: wait until some are finished and gone, or raise its limit",
            limit=result.limit,
            **data,
        )
    return errors.IdExpired(
        f"no job {id}, and its id is over {model.IDEMPOTENCY_SECONDS} seconds old: it may be finished and gone; make a new id",
        id=id,
        **data,
    )


def _digest(given: Submission, said: bytes) -> bytes:
    """Over what was said, not what it came to: a repeated submission is the same one wherever it arrives, before and after
    a kind's defaults changed."""
    options: tuple[Any, ...] = (given.queue, given.lane, given.version, given.priority, given.delay, given.run_at, given.attempts)
    options += (given.backoff, given.timeout, given.tags, given.meta)
    if options == _UNSAID:
        return model.digest(given.kind, said)
    return model.digest(
        given.kind,
        said,
        *options[:4],
        _number(given.delay),
        None if given.run_at is None else given.run_at.timestamp(),
        given.attempts,
        _number(given.backoff),
        _number(given.timeout),
        None if given.tags is None else tuple(given.tags),
        None if given.meta is None else sorted(given.meta.items()),
    )


def _number(value: float | None) -> float | None:
    """Return 2.0 for 2: JSON and Python write the same delay either way."""
    return None if value is None else float(value)


def _id(value: str, now: int) -> bytes:
    try:
        id = uuid7.parse(value)
    except (ValueError, AttributeError, TypeError):
        raise errors.InvalidId(
            f"the job id {value!r:.60} is not a UUIDv7 (RFC 9562): leave it out, or make one of version 7"
        ) from None
    return model.check_id(id, now)


def _run_at(given: Submission, now: int) -> int:
    if given.run_at is not None:
        if given.delay is not None:
            raise errors.InvalidInput("delay and run_at were both given: give one")
        if given.run_at.tzinfo is None:
            raise errors.InvalidTime(f"run_at {given.run_at.isoformat()} has no offset from UTC: add 'Z' or '+02:00'")
        at = round(given.run_at.timestamp() * clock.SECOND)
        if at > now + MAX_DELAY * clock.SECOND:
            raise errors.InvalidTime(f"run_at {given.run_at.isoformat()} is over ten years ahead")
        return at
    return now if given.delay is None else now + _micros(given.delay, 0, MAX_DELAY, "delay")


def _lane(value: str) -> model.Lane:
    if value not in ("short", "long"):
        raise errors.InvalidInput(f"lane {value!r:.40} is unknown: 'short' or 'long'")
    return model.Lane.SHORT if value == "short" else model.Lane.LONG


def _between(value: int, low: int, high: int, what: str) -> int:
    if type(value) is not int or not low <= value <= high:
        raise errors.InvalidInput(f"{what} {value!r:.40} is out of range: {low} to {high}")
    return value


def _micros(seconds: float, low: float, high: float, what: str) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not low <= seconds <= high:
        raise errors.InvalidInput(f"{what} {seconds!r:.40} is out of range: {low} to {high} seconds")
    return round(seconds * clock.SECOND)


@functools.lru_cache(1024, typed=True)
def _declared(backoff: float) -> int:
    """Return a kind's backoff in microseconds."""
    return _micros(backoff, 0, 3_600, "backoff")


def _meta(value: dict[str, str]) -> dict[str, str]:
    try:
        size = len("".join((*value.keys(), *value.values())).encode())
    except (AttributeError, TypeError, UnicodeEncodeError):
        raise errors.InvalidInput("meta holds something else than text: it maps strings to strings") from None
    if any(key.startswith(replies.OWN) for key in value):
        raise errors.InvalidInput(f"meta has a key that begins with {replies.OWN!r}: those are Callboard's own")
    if len(value) > 16 or size > 4096:
        raise errors.InvalidInput("meta is too large: 16 entries and 4096 bytes at most")
    return value
