"""What a handler is given and what it may raise: `Context`, `RetryLater`, `Discard`, `Cancelled`.

Only the handler's view. Who runs it (the worker role, or its child process) is behind the `Port`: it takes progress and
says whether the handler should end.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import structlog

from callboard import errors
from callboard.jobs import model, transactions
from callboard.kit import clock, uuid7

MAX_NOTE = 200
"""Characters kept of a progress note."""

_EXACT = 2**53
_clock = clock.SystemClock()


class RetryLater(Exception):
    """Raised by a handler to be run again after `delay_seconds`; not counted as an attempt."""

    def __init__(self, delay_seconds: float, reason: str = "") -> None:
        if not 0 <= delay_seconds < math.inf:
            raise errors.InvalidInput(f"RetryLater takes seconds from 0 up, not {delay_seconds!r:.40}")
        super().__init__(reason or f"again in {delay_seconds} s")
        self.delay_seconds = delay_seconds
        self.reason = reason


class Discard(Exception):
    """Raised by a handler to give the job up for good: `discarded`, whatever attempts are left."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Cancelled(BaseException):
    """Raised by `Context.check_cancelled` in a handler that should end. It passes `except Exception`, as CancelledError does."""


class Port(Protocol):
    """The handler's way back to the one who runs it. Used from any thread."""

    cancelled: bool
    """Whether the handler should end: somebody cancelled the job, its time is over, or its node stops or lost it."""

    progress: model.Progress | None
    """The latest progress; written by the handler, read by the one who runs it."""

    joined: bool
    """Whether the job's end was written in a transaction of the handler's: nobody else touches the job until the handler ends."""


class Context:
    """One run of a handler: which job it is for, and the handler's way to report. Safe to use from any thread."""

    __slots__ = ("_encode", "_job", "_log", "_port")

    def __init__(self, job: model.Job, port: Port, encode: Callable[[Any], bytes | None] | None = None) -> None:
        """`encode` makes of a result what is stored, as when the handler returns it."""
        self._job = job
        self._port = port
        self._encode = encode
        self._log: Any = None

    @property
    def id(self) -> str:
        """The job's id, in the usual form of a UUID."""
        return uuid7.text(self._job.id)

    @property
    def kind(self) -> str:
        return self._job.kind

    @property
    def domain(self) -> str:
        return self._job.domain

    @property
    def run(self) -> int:
        """1 at first; grows by one when a person retries the finished job."""
        return self._job.run

    @property
    def attempt(self) -> int:
        """1 for the first attempt of this run."""
        return self._job.attempts + 1

    @property
    def fence(self) -> int:
        """Grows with every start of this job: let what you write elsewhere refuse a lower one."""
        return self._job.fence

    @property
    def deadline(self) -> datetime | None:
        """When this attempt's time is over (UTC), None when it has no timeout."""
        started, timeout = self._job.started_at, self._job.timeout
        if started is None or timeout is None:
            return None
        return datetime.fromtimestamp(started / clock.SECOND, UTC) + timedelta(microseconds=timeout)

    @property
    def tags(self) -> tuple[str, ...]:
        return self._job.tags

    @property
    def meta(self) -> dict[str, str]:
        """What the submitter sent along: a copy."""
        return dict(self._job.meta)

    @property
    def log(self) -> Any:
        """A structlog logger that names the job in every line."""
        if self._log is None:
            job = self._job
            self._log = structlog.get_logger().bind(job=self.id, kind=job.kind, run=job.run, attempt=self.attempt)
        return self._log

    def progress(self, done: float, total: float = 0, note: str = "") -> None:
        """Say how far the job is: `done` of `total` (0: unknown), and a short note. Cheap; stored once a second at the most.

        Raises InvalidInput for what is not a finite number.
        """
        text = str(note)[:MAX_NOTE].encode("utf-8", "replace").decode()
        self._port.progress = model.Progress(_number(done), _number(total), text)

    @property
    def cancelled(self) -> bool:
        """Whether this handler should end soon. Async handlers are also cancelled as their task; others must look here."""
        return self._port.cancelled

    def check_cancelled(self) -> None:
        """Raise Cancelled if this handler should end: call it now and then in a handler that runs in a thread."""
        if self._port.cancelled:
            raise Cancelled

    def complete_in(self, connection: Any, result: Any = None) -> Any:
        """Complete this job, with `result`, in the transaction of its effects: both are committed, or neither.

        `connection` is your own SQLAlchemy connection or session to the store's database, async (then await this) or not; you
        commit, right after this, since the job's row is locked until then. The end of the handler must be the end of the
        transaction, too; what it returns is ignored. If nothing was committed, the attempt has failed.

        Raises ClaimLost when the job is somebody else's by now: roll back. Unsupported on SQLite. InvalidInput for a second call,
        for a result that does not fit, for a connection in autocommit; StoreForeign when the connection leads elsewhere; and what
        SQLAlchemy raises.
        """
        if self._port.joined:
            raise errors.InvalidInput("complete_in was called before: once in an attempt, right before the commit")
        encoded = None if self._encode is None else self._encode(result)
        self._port.joined = True
        try:
            done = transactions.complete(connection, self._job, encoded, _clock.now())
        except Exception:
            self._port.joined = False
            raise
        return None if done is None else self._completed(done)

    async def _completed(self, done: Awaitable[None]) -> None:
        try:
            await done
        except Exception:
            self._port.joined = False
            raise


def _number(value: float) -> float:
    if type(value) is int and abs(value) <= _EXACT:
        return value
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise errors.InvalidInput(f"progress takes finite numbers, not {value!r:.40}")
    return number
