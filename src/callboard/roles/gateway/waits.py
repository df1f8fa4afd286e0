"""Requests that wait for jobs to finish: answered the moment it happens, ended early when the gateway drains."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Final, TypeVar

import msgspec

from callboard.jobs import hints, model
from callboard.jobs import queue as queues

MAX_SECONDS: Final = 60.0
"""The longest that one request may wait."""
MAX_IDS: Final = 1000
"""The most jobs that one request may wait for."""
LOOKS_SECONDS: Final = (0.02, 0.1, 0.3)
"""The first looks come quickly: workers may not have heard yet that somebody waits. Then `POLL_SECONDS`, for lost hints."""
POLL_SECONDS: Final = 1.0
READ_AT_ONCE: Final = 50
MAX_BYTES: Final = 4 << 20
"""Bytes of arguments and results that one answer brings, about."""

Key = tuple[str, bytes]
T = TypeVar("T")


class Seen(msgspec.Struct):
    """What a look at several jobs found."""

    finished: list[model.Job]
    absent: list[bytes]


class Waits:
    """The open waits of one gateway. On one event loop."""

    def __init__(self, queue: queues.Queue) -> None:
        self._queue = queue
        self._open: set[asyncio.Timeout] = set()
        self._over = False

    def end(self) -> None:
        """Answer all open waits with what there is, and further ones at once."""
        self._over = True
        now = asyncio.get_running_loop().time()
        for scope in self._open:
            scope.reschedule(now)

    async def one(self, domain: str, id: bytes, seconds: float) -> model.Job | None:
        """Return a job when it is finished, after `seconds`, or when the gateway drains; None if there is none."""
        try:
            return await self.unless_over(self._queue.wait(domain, id, seconds))
        except TimeoutError:
            return await self._queue.get(domain, id)

    async def unless_over(self, waiting: Awaitable[T]) -> T:
        """Await something for as long as the gateway does not drain. Raises TimeoutError when it does."""
        async with asyncio.timeout(0 if self._over else None) as scope:
            self._open.add(scope)
            try:
                return await waiting
            finally:
                self._open.discard(scope)

    async def some(self, domain: str, ids: Sequence[bytes], seconds: float) -> Seen:
        """Return those of the jobs that are finished as soon as one is, or none after `seconds` or when the gateway drains.

        An answer brings about `MAX_BYTES`: the rest of the finished jobs comes when asked again.
        """
        watch = _Watch(frozenset(ids))
        unlisten, release = self._queue.hints.listen(watch.heard), self._queue.hints.await_finished()
        try:
            seen = await self._look(domain, ids)
            if seen.finished or seen.absent or seconds <= 0 or self._over:
                return seen
            async with asyncio.timeout(seconds) as scope:
                self._open.add(scope)
                try:
                    return await self._watched(domain, ids, watch)
                finally:
                    self._open.discard(scope)
        except TimeoutError:
            return Seen([], [])
        finally:
            unlisten()
            release()

    async def _watched(self, domain: str, ids: Sequence[bytes], watch: _Watch) -> Seen:
        looks = iter(LOOKS_SECONDS)
        while True:
            woken = await watch.wait(next(looks, POLL_SECONDS))
            seen = await self._look(domain, woken or ids)
            if seen.finished or seen.absent:
                return seen

    async def _look(self, domain: str, ids: Sequence[bytes]) -> Seen:
        seen, size = Seen([], []), 0
        for start in range(0, len(ids), READ_AT_ONCE):
            some = ids[start : start + READ_AT_ONCE]
            for id, job in zip(some, await self._queue.get_many([(domain, id) for id in some]), strict=True):
                if job is None:
                    seen.absent.append(id)
                elif job.finished:
                    seen.finished.append(job)
                    size += len(job.args) + len(job.result or b"")
            if size > MAX_BYTES:
                break
        return seen


class _Watch:
    """Collects hints about some ids."""

    def __init__(self, ids: frozenset[bytes]) -> None:
        self._ids = ids
        self._woken: list[bytes] = []
        self._event = asyncio.Event()

    def heard(self, hint: hints.Hint) -> None:
        if not self._ids.isdisjoint(hint.finished):
            self._woken += self._ids.intersection(hint.finished)
            self._event.set()

    async def wait(self, seconds: float) -> list[bytes]:
        """Return the ids that were heard of; empty after `seconds` without one."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return []
        self._event.clear()
        woken, self._woken = self._woken, []
        return woken
