"""Which offices of domain controllers are held, as coordination says: where one is, an agent leaves the store's upkeep to it.

Out of reach, nobody is taken to hold any: promoting and purging twice does no harm, not doing it does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from callboard import errors
from callboard.coordination import election, engine
from callboard.kit import backoff, lifecycle
from callboard.names import groups, model

FIRST_DELAY_SECONDS: Final = 0.05
LONGEST_DELAY_SECONDS: Final = 2.0
_PREFIX: Final = f"{model.DOMAIN_CONTROLLER}."


class Held(lifecycle.Lifecycle):
    """Watches the offices. On one event loop."""

    def __init__(self, session: engine.Session, grouping: groups.Groups) -> None:
        super().__init__()
        self._session = session
        self._grouping = grouping
        self._groups: frozenset[str] = frozenset()
        self._woken = asyncio.Event()
        self._ends: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None

    def vacant(self, domain: str) -> bool:
        """Tell whether a domain has no domain controller now, as far as is known here."""
        try:
            return self._grouping.of(domain) not in self._groups
        except errors.DomainNotServed:
            return True

    async def _start(self) -> None:
        self._ends = [self._session.watch(election.ACTIVE, self._woken.set), self._session.follow(self._turned)]
        self._task = asyncio.create_task(self._keep(), name="held offices")

    async def _stop(self) -> None:
        for end in self._ends:
            end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _turned(self, state: engine.State) -> None:
        self._groups = frozenset()
        self._woken.set()

    async def _keep(self) -> None:
        delays = backoff.Backoff(FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS)
        while True:
            await self._woken.wait()
            self._woken.clear()
            try:
                held = await self._session.entries(election.ACTIVE)
            except errors.CoordinationError:
                self._groups = frozenset()
                self._woken.set()
                await asyncio.sleep(delays.failed())
                continue
            delays.succeeded()
            self._groups = frozenset(each.name.removeprefix(_PREFIX) for each in held if each.name.startswith(_PREFIX))
