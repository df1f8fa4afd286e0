"""Is this gateway well, and can it serve? Two questions with different askers.

`alive` is about this process alone: its loop answers and its writer moves; a supervisor may restart it when not.
`ready` is about what it can do now for others, the store included; a load balancer sends its requests elsewhere when not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from callboard import errors
from callboard.jobs import queue as queues
from callboard.kit import grammar

STALL_NS: Final = 30_000_000_000
"""How long units may wait without the writer finishing a commit, well or not."""
PROBE_SECONDS: Final = 2.0
MAX_AGE_NS: Final = 1_000_000_000


class Health:
    """Judges one gateway. On one event loop."""

    def __init__(self, queue: queues.Queue, calls_ready: Callable[[], bool]) -> None:
        self._queue = queue
        self._calls_ready = calls_ready
        self._commits = 0.0
        self._stuck_since: int | None = None
        self._store = "ok"
        self._probed_at: int | None = None
        self.draining = False

    def alive(self) -> bool:
        """Tell whether the writer moves; that this is answered at all shows that the loop does."""
        stats, now = self._queue.stats(), self._queue.clock.boot()
        moved = stats["commits"] != self._commits or not stats["waiting"]
        self._commits = stats["commits"]
        if moved:
            self._stuck_since = None
        elif self._stuck_since is None:
            self._stuck_since = now
        return self._stuck_since is None or now - self._stuck_since < STALL_NS

    async def ready(self) -> dict[str, str]:
        """Return what can be served: `ok`, `unavailable` or `draining`, for jobs and for calls."""
        if self.draining:
            return {"jobs": "draining", "calls": "draining"}
        now = self._queue.clock.boot()
        if self._probed_at is None or now - self._probed_at >= MAX_AGE_NS:
            self._probed_at = now
            self._store = await self._probe()
        return {"jobs": self._store, "calls": "ok" if self._calls_ready() else "unavailable"}

    async def _probe(self) -> str:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._queue.document(grammar.DEFAULT_DOMAIN, "probe")
        except (errors.StoreError, TimeoutError):
            return "unavailable"
        return "ok"
