"""From the model to the documents of the API: jobs, keys, queues. Pure functions; who asks for what is decided in the routes."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from callboard import errors
from callboard.http import shapes
from callboard.jobs import model
from callboard.kit import clock, codec, uuid7
from callboard.roles.gateway import keys

COUNTED = 10_000
"""Counts are exact up to this number."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def job(of: model.Job) -> shapes.Job:
    """Return a job as lists show it."""
    return shapes.Job(**_fields(of))


def detail(of: model.Job, attempt_errors: Iterable[model.AttemptError], waiting_for: str | None) -> shapes.JobDetail:
    """Return a job with the errors of its attempts, and what it waits for."""
    return shapes.JobDetail(**_fields(of), errors=[_attempt_error(error) for error in attempt_errors], waiting_for=waiting_for)


def key(key_id: str, record: keys.Record) -> shapes.Key:
    """Return a key without its hash."""
    return shapes.Key(**_key_fields(key_id, record))


def minted(key_id: str, record: keys.Record, token: str) -> shapes.MintedKey:
    """Return a new key with its token."""
    return shapes.MintedKey(**_key_fields(key_id, record), key=token)


def queues(counts: Iterable[model.Count], paused: Iterable[tuple[str, str]]) -> list[shapes.Queue]:
    """Return the queues that have jobs or are paused, by name, kinds and lanes summed up."""
    stopped = set(paused)
    sums: dict[tuple[str, str], dict[str, int]] = {pair: {} for pair in stopped}
    for count in counts:
        states = sums.setdefault((count.domain, count.queue), {})
        states[count.state.word] = states.get(count.state.word, 0) + count.jobs
    return [
        shapes.Queue(domain, queue, (domain, queue) in stopped, {word: capped(jobs) for word, jobs in states.items() if jobs})
        for (domain, queue), states in sorted(sums.items())
    ]


def capped(jobs: int) -> int | str:
    """Return a count as far as it is exact."""
    return jobs if jobs <= COUNTED else "10,000+"


def time(micros: int) -> datetime:
    """Return a store's time as an aware datetime."""
    return _EPOCH + timedelta(microseconds=micros)


def job_id(text: str) -> bytes:
    """Read a job's id out of a path. Raises InvalidId."""
    try:
        return uuid7.parse(text)
    except ValueError:
        raise errors.InvalidId(f"{text!r:.60} is not a job id: give a UUIDv7 as it was answered at submission") from None


def cursor_text(cursor: bytes | None) -> str | None:
    """Write an engine's cursor so that it can stand in a URL."""
    return None if cursor is None else urlsafe_b64encode(cursor).decode().rstrip("=")


def cursor_bytes(text: str | None) -> bytes | None:
    """Read such a cursor. Raises InvalidInput."""
    try:
        return None if text is None else urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (binascii.Error, UnicodeEncodeError):
        raise errors.InvalidInput(f"cursor {text!r:.60} is not one: give the last page's, unchanged") from None


def _fields(of: model.Job) -> dict[str, Any]:
    return {
        "id": uuid7.text(of.id),
        "domain": of.domain,
        "kind": of.kind,
        "version": of.version,
        "queue": of.queue,
        "lane": of.lane.name.lower(),
        "state": of.state.word,
        "priority": of.priority,
        "tags": of.tags,
        "args": codec.unpack(of.args),
        "submitted_at": time(of.submitted_at),
        "run_at": time(of.run_at),
        "started_at": None if of.started_at is None else time(of.started_at),
        "finished_at": None if of.finished_at is None else time(of.finished_at),
        "run": of.run,
        "fence": of.fence,
        "attempts": of.attempts,
        "max_attempts": of.max_attempts,
        "deaths": of.deaths,
        "timeout": None if of.timeout is None else of.timeout / clock.SECOND,
        "backoff": of.backoff / clock.SECOND,
        "cancel_requested": of.cancel_requested,
        "result": None if of.result is None else codec.unpack(of.result),
        "reason": of.reason,
        "progress": None if of.progress is None else shapes.Progress(of.progress.done, of.progress.total, of.progress.note),
        "node": None if of.node is None else of.node.hex(),
        "meta": of.meta,
    }


def _attempt_error(error: model.AttemptError) -> shapes.AttemptError:
    return shapes.AttemptError(
        run=error.run,
        fence=error.fence,
        attempt=error.attempt,
        code=error.code,
        type=error.type,
        message=error.message,
        traceback=error.traceback,
        at=time(error.at),
    )


def _key_fields(key_id: str, record: keys.Record) -> dict[str, Any]:
    return {
        "id": key_id,
        "name": record.name,
        "scopes": list(record.scopes),
        "domain": record.domain,
        "created_at": time(record.created_at),
        "revoked_at": None if record.revoked_at is None else time(record.revoked_at),
    }
