"""What the agent says of its dead: their sessions in coordination end at once, and with them their entries and offices.

For a node that the kernel has declared dead, nothing else needs to be waited for: that is why a standby serves within a moment.
While coordination is out of reach the names wait here; nothing else waits with them.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from callboard import errors
from callboard.coordination import engine
from callboard.kit import backoff, lifecycle
from callboard.node import layout

FIRST_DELAY_SECONDS: Final = 0.05
LONGEST_DELAY_SECONDS: Final = 1.0
KEPT: Final = 10_000
"""Names that wait at most; the oldest are dropped, as their sessions are over by themselves meanwhile."""

log = structlog.get_logger()


class Obituaries(lifecycle.Lifecycle):
    """Ends the sessions of dead nodes. On one event loop."""

    def __init__(self, session: engine.Session) -> None:
        super().__init__()
        self._session = session
        self._due: dict[str, None] = {}
        self._more = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()
        self._telling: asyncio.Task[None] | None = None

    def dead(self, incarnation: str) -> None:
        """End this node's session, now or as soon as coordination is in reach. Returns at once."""
        self._due[layout.session_name(incarnation)] = None
        if len(self._due) > KEPT:
            del self._due[next(iter(self._due))]
        self._none.clear()
        self._more.set()

    async def settled(self) -> None:
        """Return when nothing is left to say."""
        await self._none.wait()

    async def _start(self) -> None:
        self._telling = asyncio.create_task(self._tell(), name="obituaries")

    async def _stop(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)

    async def _tell(self) -> None:
        delays = backoff.Backoff(FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS)
        unheard = False
        while True:
            await self._more.wait()
            self._more.clear()
            try:
                await self._tell_all()
            except (errors.CoordinationError, errors.StartupError) as error:
                if not unheard:
                    log.warning("coordination does not hear of a death yet", why=error.message)
                unheard = True
                self._more.set()
                await asyncio.sleep(delays.failed())
            else:
                unheard = False
                delays.succeeded()

    async def _tell_all(self) -> None:
        while self._due:
            name = next(iter(self._due))
            await self._session.end(name)
            self._due.pop(name, None)
        self._none.set()
