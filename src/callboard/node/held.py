"""Which offices of domain controllers are held, as coordination says: where one is, an agent leaves the store's upkeep to it.

Out of reach, nobody is taken to hold any: promoting and purging twice does no harm, not doing it does.
"""

from __future__ import annotations

import asyncio
from typing import Final

from callboard import errors
from callboard.coordination import election, engine, heeding
from callboard.kit import backoff
from callboard.names import groups, model

FIRST_DELAY_SECONDS: Final = 0.05
LONGEST_DELAY_SECONDS: Final = 2.0
_PREFIX: Final = f"{model.DOMAIN_CONTROLLER}."


class Held(heeding.Heeding):
    """Watches the offices. On one event loop."""

    def __init__(self, session: engine.Session, grouping: groups.Groups) -> None:
        super().__init__(session, (election.ACTIVE,))
        self._grouping = grouping
        self._groups: frozenset[str] = frozenset()

    def vacant(self, domain: str) -> bool:
        """Tell whether a domain has no domain controller now, as far as is known here."""
        try:
            return self._grouping.of(domain) not in self._groups
        except errors.DomainNotServed:
            return True

    def _turned(self, state: engine.State) -> None:
        self._groups = frozenset()
        self.woken.set()

    async def _keep(self) -> None:
        delays = backoff.Backoff(FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS)
        while True:
            await self.woken.wait()
            self.woken.clear()
            try:
                held = await self._session.entries(election.ACTIVE)
            except errors.CoordinationError:
                self._groups = frozenset()
                self.woken.set()
                await asyncio.sleep(delays.failed())
                continue
            delays.succeeded()
            self._groups = frozenset(each.name.removeprefix(_PREFIX) for each in held if each.name.startswith(_PREFIX))
