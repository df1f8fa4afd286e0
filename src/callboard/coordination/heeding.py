"""One task that is woken by what changes in coordination: what everybody shares who keeps something true by it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from callboard.coordination import engine
from callboard.kit import lifecycle

AGAIN_SECONDS: Final = 1.0
log = structlog.get_logger("callboard.coordination")


class Heeding(lifecycle.Lifecycle):
    """Runs `_keep` from its start to its stop; `woken` is set when a folder changes. On the session's loop.

    What `_keep` raises is a bug: it is logged, and a second later `_keep` runs anew, since something waits for it.
    """

    def __init__(self, session: engine.Session, folders: Sequence[str] = ()) -> None:
        super().__init__()
        self.woken = asyncio.Event()
        self._session = session
        self._folders = folders
        self._old = {*folders}
        """Folders that changed since they were read by `reread`, or were not read at all."""
        self._ends: list[Callable[[], None]] = []
        """Called at its stop."""
        self._task: asyncio.Task[None] | None = None

    async def _start(self) -> None:
        self._ends += [self._session.watch(folder, functools.partial(self._heard, folder)) for folder in self._folders]
        self._ends.append(self._session.follow(self._turned))
        self._task = asyncio.create_task(self._kept(), name=type(self).__name__.lower())

    async def _stop(self) -> None:
        for end in self._ends:
            end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _heard(self, folder: str) -> None:
        self._old.add(folder)
        self.woken.set()

    def _turned(self, state: engine.State) -> None:
        """Hear that the session is in another state."""

    async def _kept(self) -> None:
        while True:
            try:
                await self._keep()
                return
            except Exception:
                log.exception("keeping up with coordination failed", part=type(self).__name__)
            await asyncio.sleep(AGAIN_SECONDS)
            self._old |= {*self._folders}
            self.woken.set()

    async def _keep(self) -> None:
        """Do it, for ever, or until there is nothing left to do."""
        raise NotImplementedError


async def reread(session: engine.Session, folder: str, old: set[str]) -> list[engine.Entry]:
    """Read a folder that is `old`: it is so no more, unless that fails or something changes meanwhile. Raises as `entries`."""
    old.discard(folder)
    try:
        return await session.entries(folder)
    except BaseException:
        old.add(folder)
        raise
