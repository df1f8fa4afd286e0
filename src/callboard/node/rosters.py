"""What the agent leaves known of its nodes: a lasting entry in coordination that lists them, for when the whole server is gone.

A domain controller that finds neither the agent nor a listed node in coordination ends that node's claims. While coordination
is out of reach the list waits here; nothing else waits with it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from typing import Final

import msgspec
import structlog

from callboard import errors
from callboard.coordination import engine, heeding
from callboard.kit import backoff
from callboard.names import model

FIRST_DELAY_SECONDS: Final = 0.05
LONGEST_DELAY_SECONDS: Final = 1.0
CHECK_SECONDS: Final = 20.0
"""Between two looks whether the entry is still there: a controller removes those of agents that it finds gone."""
PARTING_SECONDS: Final = 1.0
"""How long a stopping agent tries to remove its list."""

log = structlog.get_logger()


class Rosters(heeding.Heeding):
    """Keeps the list of one agent true. On one event loop."""

    def __init__(self, session: engine.Session) -> None:
        super().__init__(session)
        self._path = f"{model.ROSTERS}/{session.name.removeprefix('agent-')}"
        self._nodes: tuple[str, ...] = ()
        self._told: tuple[str, ...] | None = None
        """What the entry says, as far as is known; None: it has to be looked at."""
        self._number = 0

    def tell(self, nodes: Collection[str]) -> None:
        """List these nodes from now on, or as soon as coordination is in reach. Returns at once."""
        self._nodes = tuple(sorted(nodes))
        if self._nodes != self._told:
            self.woken.set()

    async def _stop(self) -> None:
        """Nobody listed is left: nothing has to be known. Else the list stays, for those who will speak for them."""
        await super()._stop()
        if not self._nodes and self._number:
            with contextlib.suppress(errors.CoordinationError, TimeoutError):
                async with asyncio.timeout(PARTING_SECONDS):
                    await self._session.apply([engine.Remove(self._path, self._number)])

    def _turned(self, state: engine.State) -> None:
        """While the session was lost, the entry may have been taken for that of somebody gone."""
        self._told = None
        if state is engine.State.CONNECTED:
            self.woken.set()

    async def _keep(self) -> None:
        delays = backoff.Backoff(FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_SECONDS):
                    await self.woken.wait()
            if not self.woken.is_set():
                self._told = None
            self.woken.clear()
            try:
                await self._say(self._nodes)
                delays.succeeded()
            except errors.CoordinationError as error:
                self._told = None
                self.woken.set()
                log.debug("coordination does not hear who lives here", why=error.message)
                await asyncio.sleep(delays.failed())

    async def _say(self, nodes: tuple[str, ...]) -> None:
        if nodes == self._told:
            return
        if self._told is None:
            await self._find()
        body = msgspec.json.encode(model.Roster(self._session.name, nodes))
        change = engine.Replace(self._path, body, self._number) if self._number else engine.Create(self._path, body, lasting=True)
        (self._number,) = await self._session.apply([change])
        self._told = nodes

    async def _find(self) -> None:
        found = [entry for entry in await self._session.entries(model.ROSTERS) if entry.path == self._path]
        self._number = found[0].number if found else 0
