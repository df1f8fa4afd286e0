"""Where an app's jobs are submitted to, and how their results are awaited: a store opened here, or gateways over HTTP.

`Connection` is what `Callboard.connect` returns, `Submitted` what submitting returns. The ways behind them are `StoreWay` and
`gateways.GatewaysWay`; what an app's user sees is the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import msgspec

from callboard import errors
from callboard.app import handler, services
from callboard.jobs import engine as seam
from callboard.jobs import engines, hub_hints, kinds, model, submission, transactions
from callboard.jobs import queue as queues
from callboard.kit import clock, codec, uuid7

WAIT_SECONDS = 60.0
"""One turn of waiting; a longer wait takes several."""
_clock = clock.SystemClock()


class Ending(msgspec.Struct, frozen=True):
    """How a job ended: the state's word, the result in plain values, and for the other ends why."""

    state: str
    result: Any = None
    reason: str | None = None
    error: tuple[str, str] = ("", "")
    """Type and message of what went wrong in the last attempt."""


class Way(Protocol):
    """A way to the store: what a `Connection` needs of it. Errors are CallboardErrors."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def submit(self, given: Sequence[submission.Submission], kind: kinds.Kind) -> list[tuple[str, str, bool]]:
        """Store all, or raise with `data["index"]`; return (domain, id, created) of each."""

    async def ending(self, domain: str, id: str, seconds: float) -> Ending | None:
        """Return how a job ended, as soon as it did; None when it did not within `seconds`. Raises JobNotFound."""

    async def cancel(self, domain: str, id: str) -> str:
        """Cancel; return `cancelled` or `cancel_requested`. Raises JobNotFound, StateRefused."""


class Owner(Protocol):
    """The app that a connection belongs to."""

    def attach(self, made: Connection) -> None: ...

    def detach(self, made: Connection) -> None: ...


class Connection:
    """Use as `async with app.connect(...)`: opened on entry, closed on exit. On one event loop."""

    def __init__(self, app: Owner, way: Way, domain: str | None = None) -> None:
        self._app = app
        self._way = way
        self._domain = domain

    async def __aenter__(self) -> Connection:
        self._app.attach(self)
        try:
            await self._way.open()
        except BaseException:
            self._app.detach(self)
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._app.detach(self)
        await self._way.close()

    @property
    def calls(self) -> services.Way | None:
        """The way of calls to named services; None where it leads to a store, which answers none."""
        return self._way if isinstance(self._way, services.Way) else None

    @property
    def way(self) -> Way:
        """Its way to the store."""
        return self._way

    async def submit(self, declared: handler.Handler, given: Sequence[submission.Submission]) -> list[Submitted]:
        """Submit jobs of one kind; see `JobHandle.submit_many`."""
        self.place(given)
        stored = await self._way.submit(given, declared.kind)
        return [Submitted(self._way, declared, *each) for each in stored]

    def place(self, given: Sequence[submission.Submission]) -> None:
        """Give jobs that name no domain the connection's."""
        if self._domain is not None:
            for each in given:
                each.domain = each.domain or self._domain


class Joined:
    """Submits in transactions of a user's; results are awaited through whatever connection the app has by then."""

    def __init__(self, own: Connection | None, later: Callable[[], Connection]) -> None:
        """`own` is the app's connection, if it has one; `later` returns it, or raises InvalidInput."""
        self._own = own
        self._later = later

    async def submit(self, connection: Any, declared: handler.Handler, given: Sequence[submission.Submission]) -> list[Submitted]:
        """Submit jobs of one kind in a connection's transaction, all or none; see `JobHandle.submit`."""
        if self._own is not None:
            _check_joinable(self._own.way)
            self._own.place(given)
        now = _clock.now()
        jobs = _built(given, declared.kind, now)
        return [
            Submitted(_Later(self._later), declared, *each) for each in _told(jobs, await transactions.put(connection, jobs, now))
        ]


class _Later:
    """Waits for jobs, and cancels them, through a connection that is asked for when it is needed."""

    def __init__(self, connection: Callable[[], Connection]) -> None:
        self._connection = connection

    async def ending(self, domain: str, id: str, seconds: float) -> Ending | None:
        return await self._connection().way.ending(domain, id, seconds)

    async def cancel(self, domain: str, id: str) -> str:
        return await self._connection().way.cancel(domain, id)


def _check_joinable(way: Way) -> None:
    """Raise Unsupported when the app's own store is none that a transaction of a user's can reach."""
    if isinstance(way, StoreWay) and not way.queue.engine.abilities.transactional_submit:
        raise errors.Unsupported(
            f"a {way.queue.engine.name} store takes no jobs inside your own transaction: use one on MySQL or PostgreSQL"
        )


class Follower(Protocol):
    """What a `Submitted` needs of a way."""

    async def ending(self, domain: str, id: str, seconds: float) -> Ending | None: ...

    async def cancel(self, domain: str, id: str) -> str: ...


class Submitted:
    """A job that was submitted. `id` is its id, `created` False when a job of this id was there already."""

    __slots__ = ("_declared", "_way", "created", "domain", "id")

    def __init__(self, way: Follower, declared: handler.Handler, domain: str, id: str, created: bool) -> None:
        self._way = way
        self._declared = declared
        self.domain = domain
        self.id = id
        self.created = created

    def __repr__(self) -> str:
        return f"<{self._declared.kind.name} {self.id}>"

    async def wait(self, timeout: float | None = None) -> str:
        """Return the state in which the job ended, the moment it does: `completed`, `discarded` or `cancelled`.

        Raises WaitTimeout after `timeout` seconds (None: never), JobNotFound.
        """
        return (await self._ending(timeout)).state

    async def result(self, timeout: float | None = None) -> Any:
        """Return what the handler returned, as its annotation says, once the job is completed.

        Raises JobFailed when it ended otherwise, WaitTimeout after `timeout` seconds (None: never), JobNotFound.
        """
        ending = await self._ending(timeout)
        if ending.state != model.State.COMPLETED.word:
            raise errors.JobFailed.of(self.id, ending.state, ending.reason, *ending.error)
        return self._declared.result.restore(ending.result)

    async def cancel(self) -> str:
        """Cancel the job: `cancelled`, or `cancel_requested` while it runs. Raises JobNotFound, StateRefused."""
        return await self._way.cancel(self.domain, self.id)

    async def _ending(self, seconds: float | None) -> Ending:
        loop = asyncio.get_running_loop()
        deadline = None if seconds is None else loop.time() + seconds
        while True:
            left = WAIT_SECONDS if deadline is None else deadline - loop.time()
            if (ending := await self._way.ending(self.domain, self.id, min(max(left, 0), WAIT_SECONDS))) is not None:
                return ending
            if left <= WAIT_SECONDS and deadline is not None:
                raise errors.WaitTimeout(f"job {self.id} is not finished after {seconds} s: wait again, or longer")


class StoreWay:
    """Straight to a store: a `Queue` of this process, opened here from a URL unless it is given."""

    def __init__(self, store: str | queues.Queue) -> None:
        self._url = store if isinstance(store, str) else None
        self._queue = None if isinstance(store, str) else store
        self._hints: hub_hints.HubHints | None = None

    @property
    def queue(self) -> queues.Queue:
        if self._queue is None:
            raise errors.InvalidInput("the connection is not open: use it inside 'async with'")
        return self._queue

    async def open(self) -> None:
        if self._url is None:
            return
        engine = await asyncio.to_thread(engines.open, self._url)
        path = getattr(engine, "path", None)  # A store in a file has its machine's hub beside it.
        if isinstance(path, Path) and (hints := hub_hints.beside(path)) is not None:
            await hints.start()
            self._hints = hints
        self._queue = queues.Queue(engine, hints=self._hints)
        await self._queue.start()

    async def close(self) -> None:
        if self._url is None or self._queue is None:
            return
        opened, self._queue = self._queue, None
        await opened.stop()
        if self._hints is not None:
            await self._hints.stop()

    async def submit(self, given: Sequence[submission.Submission], kind: kinds.Kind) -> list[tuple[str, str, bool]]:
        jobs = _built(given, kind, self.queue.clock.now())
        return _told(jobs, await self.queue.submit(jobs))

    async def ending(self, domain: str, id: str, seconds: float) -> Ending | None:
        job = await self.queue.wait(domain, raw := uuid7.parse(id), seconds)
        if job is None:
            raise errors.JobNotFound(f"no job {id}: it never was, or it was purged")
        if not job.finished:
            return None
        result = None if job.result is None else codec.unpack(job.result)
        if job.state is model.State.COMPLETED:
            return Ending(job.state.word, result)
        said = [(each.type, each.message) for each in await self.queue.attempt_errors(domain, raw) if each.run == job.run]
        return Ending(job.state.word, result, job.reason, said[-1] if said else ("", ""))

    async def cancel(self, domain: str, id: str) -> str:
        try:
            state = await self.queue.cancel(domain, uuid7.parse(id))
        except errors.StateRefused as error:
            if error.data.get("state") != model.State.CANCELLED.word:
                raise
            state = model.State.CANCELLED  # Asked twice is the same.
        return state.word if state is model.State.CANCELLED else "cancel_requested"


def _built(given: Sequence[submission.Submission], kind: kinds.Kind, now: int) -> list[model.Job]:
    known = {kind.name: kind}
    jobs = []
    for index, each in enumerate(given):
        try:
            jobs.append(submission.build(each, known, now))
        except errors.CallboardError as error:
            error.data.setdefault("index", index)
            raise
    return jobs


def _told(jobs: Sequence[model.Job], results: Sequence[seam.Result]) -> list[tuple[str, str, bool]]:
    """Return (domain, id, created) of each, or raise for the first that was refused."""
    return [
        (job.domain, uuid7.text(job.id), _created(job, result, index))
        for index, (job, result) in enumerate(zip(jobs, results, strict=False))
    ]


def _created(job: model.Job, result: seam.Result, index: int) -> bool:
    match result:
        case seam.Created():
            return True
        case seam.Same():
            return False
        case _:
            raise submission.refused(job, result, index=index)
