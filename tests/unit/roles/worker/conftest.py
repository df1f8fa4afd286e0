"""A yard: a store in memory that can be made to fail, and workers that look often."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import msgspec
import pytest

from callboard import errors
from callboard.app import Callboard
from callboard.jobs import engine as seam
from callboard.jobs import model, submission
from callboard.jobs import queue as queues
from callboard.jobs.engines import memory
from callboard.kit import grammar, uuid7
from callboard.roles import worker

Until = Callable[..., Awaitable[None]]


class QuickWorker(worker.Worker):
    poll_seconds = 0.05


class Watched:
    """An engine that notes the operations it is given, and fails when it is told to."""

    def __init__(self) -> None:
        self._engine = memory.open("memory:")
        self.ops: list[seam.Op] = []
        self.fails: Callable[[], Exception | None] = lambda: None
        """Asked before each commit."""
        self.forgets: Callable[[Sequence[seam.Unit]], bool] = lambda units: False
        """Asked after each commit: whether its answer is lost."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def apply(self, units: Sequence[seam.Unit]) -> list[seam.UnitResult]:
        if (error := self.fails()) is not None:
            raise error
        self.ops += [op for unit in units for op in unit]
        results = self._engine.apply(units)
        if self.forgets(units):
            raise errors.StoreUnavailable("the answer was lost", unknown=True)
        return results

    def seen(self, kind: type[seam.Op]) -> int:
        return sum(isinstance(op, kind) for op in self.ops)


class Yard:
    """One store, two processes' views of it, and the workers of a test."""

    def __init__(self, until: Until) -> None:
        self.until = until
        """Wait for a condition, with a deadline."""
        self.engine = Watched()
        self.queue = queues.Queue(self.engine)
        self.aside = queues.Queue(self.engine)
        """Another process's view: its hints do not reach the workers."""
        self.workers: list[worker.Worker] = []

    async def work(self, app: Callboard, slots: int = 4, **options: Any) -> worker.Worker:
        renew_seconds = options.pop("renew_seconds", 0.05)
        options = {"abandon_seconds": 0.05, "node": uuid7.make(self.queue.clock.now()), **options}
        made = QuickWorker(self.queue, app, slots=slots, **options)
        made.renew_seconds = renew_seconds
        self.workers.append(made)
        await made.start()
        return made

    async def submit(self, app: Callboard, kind: str, /, **args: Any) -> bytes:
        return await self.submit_to(self.queue, app, kind, args)

    async def submit_to(self, store: queues.Queue, app: Callboard, kind: str, args: dict[str, Any], /, **options: Any) -> bytes:
        """Submit by name, without the checks of the kind's declaration."""
        given = submission.Submission(kind=f"{app.title}.{kind}", args=args, **options)
        known = {name: msgspec.structs.replace(each, check=None) for name, each in app.kinds.items()}
        job = submission.build(given, known, store.clock.now())
        await store.submit([job])
        return job.id

    async def job(self, id: bytes) -> model.Job:
        job = await self.queue.get(grammar.DEFAULT_DOMAIN, id)
        assert job is not None
        return job

    async def end(self, id: bytes) -> model.Job:
        """The job, once it is finished."""
        job = await self.queue.wait(grammar.DEFAULT_DOMAIN, id, 60)
        assert job is not None
        assert job.finished, job
        return job

    async def result(self, id: bytes) -> Any:
        """What a job's handler returned, once it is completed."""
        job = await self.end(id)
        assert job.state is model.State.COMPLETED, (job, await self.errors(id))
        return None if job.result is None else msgspec.msgpack.decode(job.result)

    async def errors(self, id: bytes) -> list[model.AttemptError]:
        return await self.queue.attempt_errors(grammar.DEFAULT_DOMAIN, id)

    async def becomes(self, id: bytes, state: model.State) -> model.Job:
        """The job, once it is in a state."""

        async def there() -> bool:
            return (await self.job(id)).state is state

        await self.until(there)
        return await self.job(id)


@pytest.fixture
async def yard(eventually: Until) -> AsyncIterator[Yard]:
    made = Yard(eventually)
    await made.queue.start()
    await made.aside.start()
    yield made
    made.engine.fails = lambda: None
    made.engine.forgets = lambda units: False
    for each in made.workers:
        await each.stop()
    await made.queue.stop()
    await made.aside.stop()
