"""Those who wait for jobs to finish: woken by hints, kept honest by polling. Only `queue` uses it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from callboard import errors
from callboard.jobs import hints as wake
from callboard.jobs import model

POLL_SECONDS: Final = 1.0
"""How long a lost hint may cost."""
FIRST_LOOKS: Final = (0.005, 0.02, 0.1, 0.3)
"""Seconds after which a wait looks again, while others may not have heard yet that somebody waits."""

Read = Callable[[Sequence[tuple[str, bytes]]], Awaitable[list[model.Job | None]]]
Future = asyncio.Future[model.Job]


class Waiters:
    """Waits of one process. All on one event loop's thread."""

    def __init__(self, read: Read, hints: wake.Hints) -> None:
        self._read = read
        self._hints = hints
        self._waiting: dict[bytes, list[tuple[str, Future]]] = {}
        self._heard: set[bytes] = set()
        self._reading: asyncio.Task[None] | None = None
        self._polling: asyncio.Task[None] | None = None

    async def wait(self, domain: str, id: bytes, seconds: float) -> model.Job | None:
        """See `Queue.wait`."""
        known = self._hints.waiting
        stop = self._hints.await_finished()
        future: Future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(id, []).append((domain, future))
        try:
            (job,) = await self._read([(domain, id)])
            if job is None or job.finished or seconds <= 0:
                return job
            self._poll()
            try:
                async with asyncio.timeout(seconds):
                    return await self._finished(domain, id, future, () if known else FIRST_LOOKS)
            except TimeoutError:
                return (await self._read([(domain, id)]))[0]
        finally:
            stop()
            future.cancel()
            self._forget(id, future)

    async def _finished(self, domain: str, id: bytes, future: Future, looks: Iterable[float]) -> model.Job | None:
        for pause in looks:
            done, _ = await asyncio.wait([future], timeout=pause)
            if done:
                break
            with contextlib.suppress(errors.StoreError):  # Polling goes on asking.
                (job,) = await self._read([(domain, id)])
                if job is None or job.finished:
                    return job
        return await future

    def finished(self, ids: Iterable[bytes]) -> None:
        """Hear of jobs that finished; those somebody waits for are read, together."""
        self._heard.update(id for id in ids if id in self._waiting)
        if self._heard and self._reading is None:
            self._reading = asyncio.ensure_future(self._answer())

    def stop(self) -> None:
        """End the tasks; waits that are still open end by their own time or cancellation."""
        for task in (self._reading, self._polling):
            if task is not None:
                task.cancel()

    async def _answer(self) -> None:
        try:
            while self._heard:
                ids, self._heard = self._heard, set()
                with contextlib.suppress(errors.StoreError):  # Polling goes on asking.
                    await self._look(ids)
        finally:
            self._reading = None

    async def _look(self, ids: Iterable[bytes]) -> None:
        keys = list(dict.fromkeys((domain, id) for id in ids for domain, _ in self._waiting.get(id, ())))
        for key, job in zip(keys, await self._read(keys), strict=True):
            if job is not None and job.finished:
                for domain, future in self._waiting.get(key[1], ()):
                    if domain == key[0] and not future.done():
                        future.set_result(job)

    def _poll(self) -> None:
        if self._polling is None:
            self._polling = asyncio.ensure_future(self._poll_while_waiting())

    async def _poll_while_waiting(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(POLL_SECONDS)
                with contextlib.suppress(errors.StoreError):
                    await self._look(tuple(self._waiting))
        finally:
            self._polling = None

    def _forget(self, id: bytes, future: Future) -> None:
        left = [entry for entry in self._waiting[id] if entry[1] is not future]
        if left:
            self._waiting[id] = left
        else:
            del self._waiting[id]
