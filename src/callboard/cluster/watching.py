"""The view that a process has now, and who waits for the next one. On one event loop; the view may be read from any thread."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable

from callboard.cluster import view


class Watched:
    """Whoever hears of changes puts the newer view here."""

    def __init__(self) -> None:
        self.view = view.NOTHING
        self._waiting: set[asyncio.Future[None]] = set()

    def put(self, now: view.View) -> None:
        """Take a view in the place of the present one, and wake who waits for another."""
        if now.mark == self.view.mark:  # A version says the same to everybody.
            return
        self.view = now
        for each in self._waiting:
            if not each.done():
                each.set_result(None)

    async def after(self, version: view.Version, stale: bool, seconds: float | None = None) -> view.View:
        """Return the view as soon as it is newer than a version, or of that version and not as stale or fresh as it was; else
        the present one after `seconds` (None: never)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.view.version < version or (self.view.version, self.view.stale) == (version, stale):
                    await self._next()
        return self.view

    async def _next(self) -> None:
        woken = asyncio.get_running_loop().create_future()
        self._waiting.add(woken)
        try:
            await woken
        finally:
            self._waiting.discard(woken)


async def changes(newer: Callable[[view.View], Awaitable[view.View]]) -> AsyncGenerator[view.Change, None]:
    """Yield what there is as one change, then what differs in each view that `newer(the one before)` returns, if it is newer."""
    seen = view.NOTHING
    while True:
        now = await newer(seen)
        if now.mark != seen.mark and now.version >= seen.version:
            yield view.change(seen, now)
            seen = now
