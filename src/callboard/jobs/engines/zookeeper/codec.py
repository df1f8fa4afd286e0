"""What the nodes of the store contain: MessagePack arrays. Fields are appended, never moved; who reads ignores more. Pure."""

from __future__ import annotations

import sys
from typing import Any, Final

import msgspec

from callboard.jobs import model

FORMAT: Final = 1
INLINE: Final = 512
"""Bytes of arguments, and of a result, that are kept in the job's own node; what is longer lies beside it."""
SMALL: Final = 4096
"""Bytes that a job's node, or an entry of the log, has at most as a rule."""
BESIDE: Final = bytes(bytearray(b"beside"))
"""Stands (by identity) for arguments or a result that lie beside the job."""
THERE: Final = bytes(bytearray(b"there"))
"""Stands (by identity) for arguments or a result that lie in the job's node, and are not held here."""
_NO_META: Final[dict[str, str]] = {}
_NONE, _INSIDE, _OUTSIDE = 0, 1, 2


class _Array(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base: a MessagePack array of the fields in their order."""


class Head(_Array, frozen=True, gc=False):
    """The store: its format, the oldest reader's format, the epoch of its log."""

    format: int
    min_reader: int
    epoch: int


class Fixed(_Array, frozen=True, gc=False):
    """What a job keeps for good; `index` is its place among those that were made in the same commit."""

    index: int
    id: bytes
    domain: str
    kind: str
    queue: str
    lane: model.Lane
    version: int
    priority: int
    codec: int
    digest: bytes
    tags: tuple[str, ...]
    meta: dict[str, str]
    max_attempts: int
    backoff: int
    timeout: int | None
    submitted_at: int


class Moving(_Array, frozen=True, gc=False):
    """What changes of a job. `fences` are those with an error, `result` tells where that lies."""

    state: model.State
    run_at: int
    started_at: int | None
    finished_at: int | None
    run: int
    fence: int
    attempts: int
    deaths: int
    node: bytes | None
    cancel_requested: bool
    reason: str | None
    progress: model.Progress | None
    result: int
    fences: tuple[int, ...]


class Body(_Array, frozen=True, gc=False):
    """A job's node. `args` None: they lie beside it."""

    fixed: Fixed
    moving: Moving
    args: bytes | None
    result: bytes | None = None


class Written(_Array, frozen=True, gc=False):
    """A document's node; body None when it was removed, or (version 0) was never written."""

    domain: str
    path: str
    version: int
    body: bytes | None


class Changed(_Array, frozen=True, gc=False):
    """In the log: a job that was there, as it is now; `stamp` is its node's version."""

    domain: str
    id: bytes
    stamp: int
    moving: Moving


class WrittenDocument(_Array, frozen=True, gc=False):
    """In the log: a document's version; the body is read where it is needed."""

    domain: str
    path: str
    stamp: int
    version: int
    present: bool


class Renewed(_Array, frozen=True, gc=False):
    """In the log: when a node renewed; None when that was forgotten."""

    node: bytes
    stamp: int
    at: int | None


class Entry(_Array, frozen=True, gc=False):
    """In the log: one commit. `token` and `number` say whose it was, and tell him whether it was applied; `crowded`, that he had
    met others over the same jobs before."""

    token: bytes
    number: int
    removed: tuple[tuple[str, bytes], ...] = ()
    created: tuple[Body, ...] = ()
    changed: tuple[Changed, ...] = ()
    documents: tuple[WrittenDocument, ...] = ()
    renewed: tuple[Renewed, ...] = ()
    crowded: bool = False


_encoder: Final = msgspec.msgpack.Encoder()
DecodeError = msgspec.DecodeError
encode: Final = _encoder.encode
decode_head: Final = msgspec.msgpack.Decoder(Head).decode
decode_body: Final = msgspec.msgpack.Decoder(Body).decode
decode_entry: Final = msgspec.msgpack.Decoder(Entry).decode
decode_document: Final = msgspec.msgpack.Decoder(Written).decode
decode_error: Final = msgspec.msgpack.Decoder(model.AttemptError).decode
decode_time: Final = msgspec.msgpack.Decoder(int).decode


def entry(token: bytes, number: int, *parts: list[Any], crowded: bool) -> bytes:
    """Encode a commit; each part is a list of what was encoded before."""
    raw = [[msgspec.Raw(each) for each in part] for part in parts]
    return encode((token, number, *raw, crowded))


def fixed(job: model.Job, index: int) -> Fixed:
    return Fixed(
        index,
        job.id,
        job.domain,
        job.kind,
        job.queue,
        job.lane,
        job.version,
        job.priority,
        job.codec,
        job.digest,
        job.tags,
        job.meta,
        job.max_attempts,
        job.backoff,
        job.timeout,
        job.submitted_at,
    )


def moving(job: model.Job, fences: tuple[int, ...]) -> Moving:
    result = job.result
    lies = _NONE if result is None else _OUTSIDE if result is BESIDE or len(result) > INLINE else _INSIDE
    return Moving(
        job.state,
        job.run_at,
        job.started_at,
        job.finished_at,
        job.run,
        job.fence,
        job.attempts,
        job.deaths,
        job.node,
        job.cancel_requested,
        job.reason,
        job.progress,
        lies,
        fences,
    )


def job(body: Body) -> model.Job:
    """Return the job of a node; what lies beside it is BESIDE."""
    return made(body.fixed, body.moving, BESIDE if body.args is None else body.args, _result(body))


def _result(body: Body) -> bytes | None:
    lies = body.moving.result
    return None if lies == _NONE else BESIDE if lies == _OUTSIDE else body.result


def slim(body: Body) -> model.Job:
    """Return the job of a node as a replica holds it: without its result, and when finished, without its arguments."""
    args = BESIDE if body.args is None else THERE if body.moving.state in model.TERMINAL else body.args
    return made(body.fixed, body.moving, args, _held(body.moving.result))


def _held(lies: int) -> bytes | None:
    return None if lies == _NONE else BESIDE if lies == _OUTSIDE else THERE


def made(fixed: Fixed, moving: Moving, args: bytes, result: bytes | None) -> model.Job:
    return model.Job(
        id=fixed.id,
        kind=sys.intern(fixed.kind),
        domain=sys.intern(fixed.domain),
        queue=sys.intern(fixed.queue),
        lane=fixed.lane,
        version=fixed.version,
        state=moving.state,
        priority=fixed.priority,
        codec=fixed.codec,
        args=args,
        digest=fixed.digest,
        tags=fixed.tags,
        meta=fixed.meta or _NO_META,
        max_attempts=fixed.max_attempts,
        backoff=fixed.backoff,
        timeout=fixed.timeout,
        submitted_at=fixed.submitted_at,
        run_at=moving.run_at,
        started_at=moving.started_at,
        finished_at=moving.finished_at,
        run=moving.run,
        fence=moving.fence,
        attempts=moving.attempts,
        deaths=moving.deaths,
        node=moving.node,
        cancel_requested=moving.cancel_requested,
        result=result,
        reason=moving.reason,
        progress=moving.progress,
    )


def moved(job: model.Job, moving: Moving) -> model.Job:
    """Return a job of a replica after a change that the log tells."""
    args = job.args
    if args is not BESIDE and moving.state in model.TERMINAL:
        args = THERE
    return msgspec.structs.replace(
        job,
        state=moving.state,
        args=args,
        run_at=moving.run_at,
        started_at=moving.started_at,
        finished_at=moving.finished_at,
        run=moving.run,
        fence=moving.fence,
        attempts=moving.attempts,
        deaths=moving.deaths,
        node=moving.node,
        cancel_requested=moving.cancel_requested,
        result=_held(moving.result),
        reason=moving.reason,
        progress=moving.progress,
    )


def with_args(job: model.Job, args: bytes) -> model.Job:
    return msgspec.structs.replace(job, args=args)


def with_result(job: model.Job, result: bytes) -> model.Job:
    return msgspec.structs.replace(job, result=result)
