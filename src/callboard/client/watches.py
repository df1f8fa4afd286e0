"""Waiting for many jobs at once, with a few requests at a time. Only `calls` uses it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from callboard import errors
from callboard.http import shapes

WATCHED_IDS: Final = 1000
"""Jobs that one request waits for."""
WATCHES: Final = 8
"""Requests that wait at the same time."""
LONG_SECONDS: Final = 30.0
TURN_SECONDS: Final = 1.0
"""How long a request waits while other jobs wait for their turn to be asked for."""


class Ask(Protocol):
    """How one request is made; see `Client.watch`."""

    async def __call__(self, ids: Sequence[str], seconds: float, *, domain: str | None = None) -> shapes.Finished: ...


class Watches:
    """Waits for many jobs with a few requests at a time; `next` returns what finished since."""

    def __init__(self, ask: Ask, ids: Sequence[str], domain: str | None) -> None:
        self._ask = ask
        self._domain = domain
        self._chunks = deque(ids[start : start + WATCHED_IDS] for start in range(0, len(ids), WATCHED_IDS))
        self._found: asyncio.Queue[list[shapes.Job] | Exception] = asyncio.Queue()
        self._tasks = [asyncio.create_task(self._watch()) for _ in range(min(WATCHES, len(self._chunks)))]

    async def next(self) -> list[shapes.Job]:
        """Return jobs that finished, at least one; each job comes once."""
        found = await self._found.get()
        if isinstance(found, Exception):
            raise found
        return found

    async def aclose(self) -> None:
        """End the requests."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self) -> None:
        while self._chunks:
            ids = self._chunks.popleft()
            seconds = TURN_SECONDS if self._chunks else LONG_SECONDS
            try:
                answer = await self._ask(ids, seconds, domain=self._domain)
            except Exception as error:
                self._found.put_nowait(error)
                return
            if answer.unknown:
                self._found.put_nowait(errors.JobNotFound(f"no job {answer.unknown[0]}: it never was, or it was purged"))
                return
            done = {job.id for job in answer.jobs}
            if left := [id for id in ids if id not in done]:
                self._chunks.append(left)
            if answer.jobs:
                self._found.put_nowait(answer.jobs)
