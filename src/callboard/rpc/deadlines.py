"""Deadlines of many short requests with one timer: adding and removing one costs a dictionary's time.

The timer is set to the earliest deadline that was known when it was set; most requests have ended by then, and it is set
anew. Used by both sides of a connection.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

GRAIN_SECONDS = 0.002
"""How much later than its deadline a request may expire when many expire: each sweep looks at all of them."""


class Deadlines:
    """When each of the requests under way expires. On one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[int], object]) -> None:
        self.at: dict[int, float] = {}
        """Time of the loop by id. Whoever ends before it expires is removed from here."""
        self._loop = loop
        self._expired = expired
        self._next = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def add(self, id: int, at: float) -> None:
        """Call `expired(id)` at a time of the loop, unless it was removed before."""
        self.at[id] = at
        if at < self._next:
            self._set(at)

    def stop(self) -> None:
        """Nothing expires any more."""
        self.at.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _set(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = at
        self._timer = self._loop.call_at(at, self._sweep)

    def _sweep(self) -> None:
        self._next, self._timer = math.inf, None
        now = self._loop.time()
        for id in [id for id, at in self.at.items() if at <= now]:
            if self.at.pop(id, None) is not None:
                self._expired(id)
        if self.at:
            self._set(max(min(self.at.values()), now + GRAIN_SECONDS))
