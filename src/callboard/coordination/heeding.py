"""One task that is woken by what changes in coordination: what everybody shares who keeps something true by it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from callboard.coordination import engine
from callboard.kit import lifecycle


class Heeding(lifecycle.Lifecycle):
    """Runs `_keep` from its start to its stop; `woken` is set when a folder changes. On the session's loop."""

    def __init__(self, session: engine.Session, folders: Sequence[str]) -> None:
        super().__init__()
        self.woken = asyncio.Event()
        self._session = session
        self._folders = folders
        self._ends: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None

    async def _start(self) -> None:
        self._ends = [self._session.watch(folder, self.woken.set) for folder in self._folders]
        self._ends.append(self._session.follow(self._turned))
        self._task = asyncio.create_task(self._keep(), name=type(self).__name__.lower())

    async def _stop(self) -> None:
        for end in self._ends:
            end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _turned(self, state: engine.State) -> None:
        """Hear that the session is in another state."""

    async def _keep(self) -> None:
        """Do it, for ever."""
        raise NotImplementedError
