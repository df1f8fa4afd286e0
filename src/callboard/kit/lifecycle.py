"""One life for everything long-lived: start → ready → drain → stop."""

from __future__ import annotations

import asyncio
import enum


class Phase(enum.Enum):
    """Where a `Lifecycle` is."""

    NEW = "new"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"


class Lifecycle:
    """Base of what is started and stopped. Subclasses override `_start`, `_drain` and `_stop`; callers use the public verbs.

    `start` once; a failed start stops what had begun and raises. `drain` and `stop` may come at any time, twice, or before
    `start`; concurrent ones wait for each other. After `stop` nothing of it runs. All on one event loop.
    """

    def __init__(self) -> None:
        self.phase = Phase.NEW
        self._turn = asyncio.Lock()

    @property
    def ready(self) -> bool:
        return self.phase is Phase.READY

    async def start(self) -> None:
        """Begin; when it returns, this is ready. Raises RuntimeError when it was started or stopped before."""
        async with self._turn:
            if self.phase is not Phase.NEW:
                raise RuntimeError(f"{type(self).__name__} was started before")
            self.phase = Phase.STARTING
            try:
                await self._start()
            except BaseException:
                self.phase = Phase.STOPPED
                await self._stop()
                raise
            self.phase = Phase.READY

    async def drain(self, grace_seconds: float) -> None:
        """Take no new work and end what runs, within `grace_seconds`."""
        async with self._turn:
            if self.phase is Phase.READY:
                self.phase = Phase.DRAINING
                await self._drain(grace_seconds)

    async def stop(self) -> None:
        """End at once; what `drain` was not given time for is cut off."""
        async with self._turn:
            begun = self.phase in (Phase.READY, Phase.DRAINING)
            self.phase = Phase.STOPPED
            if begun:
                await self._stop()

    async def _start(self) -> None:
        """Begin. Called once."""

    async def _drain(self, grace_seconds: float) -> None:
        """Finish. Called at most once, only after `_start`."""

    async def _stop(self) -> None:
        """Let go of everything. Called at most once, also after a failed `_start`."""
