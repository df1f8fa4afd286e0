"""Looks at the store for renewals that do not come, at every candidate: whoever takes office knows already who is quiet.

At rest that is one question a second. Only while somebody is overdue and nothing else is written, each look writes something,
so as to tell a node that does not renew from a store that takes no renewals.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import structlog

from callboard import errors
from callboard.coordination import engine, heeding
from callboard.jobs import queue
from callboard.kit import clock
from callboard.roles.domain_controller import silence

REST_SECONDS: Final = 1.0
"""Between two looks while nobody has claims."""
LOOK_SECONDS: Final = 0.5
"""Between two looks while somebody has, or the store or coordination is out of reach. There is one at once when somebody will
not have renewed for the lease."""
SHORTEST_SECONDS: Final = 0.02
STALLED_SECONDS: Final = 10.0
"""Without a word from the store for so long, a node is of no use in this office."""
log = structlog.get_logger("callboard.controller")


class Looks(heeding.Heeding):
    """Looks from its start to its stop; `record` is what it came to."""

    def __init__(
        self, queue: queue.Queue, session: engine.Session, clock: clock.Clock, node: Callable[[], bytes], limits: silence.Limits
    ) -> None:
        """`node` returns the incarnation that writes what has to be written, of a node without claims."""
        super().__init__(session)
        self.record = silence.Record()
        self.limits = limits
        self._queue = queue
        self._clock = clock
        self._node = node
        self._pace = min(LOOK_SECONDS, limits.lease_seconds / 6)
        self._held_up = False
        self._reached_at = clock.boot()
        self._looking = asyncio.Lock()
        self._told: list[Callable[[], None]] = []

    def tell(self, looked: Callable[[], None]) -> Callable[[], None]:
        """Call `looked()` after each look. Returns what ends it."""
        self._told.append(looked)
        return lambda: self._told.remove(looked)

    def stalled(self) -> bool:
        """Tell whether the store has been out of reach for so long that another node should try its luck."""
        return self._clock.boot() - self._reached_at > STALLED_SECONDS * silence.NS

    async def look(self) -> silence.Record:
        """Look once more, now. Raises StoreError, and CoordinationUnavailable while that is out of reach."""
        async with self._looking:
            if self._session.state is not engine.State.CONNECTED:
                raise errors.CoordinationUnavailable("coordination is out of reach: nobody is taken for silent meanwhile")
            try:
                self.record = silence.after(self.record, await self._seen(), self.limits)
            except Exception:
                self.record = silence.broken(self.record)
                raise
            return self.record

    def _turned(self, state: engine.State) -> None:
        self.woken.set()

    async def _keep(self) -> None:
        while True:
            self.woken.clear()
            try:
                await self.look()
                self._say(held_up="")
            except (errors.StoreError, errors.CoordinationError) as error:
                self._say(held_up=error.message)
            for looked in tuple(self._told):
                looked()
            await self._pause()

    async def _seen(self) -> silence.Look:
        began = self._clock.boot()
        renewed = {node.hex(): at for node, at in await self._queue.claimants()}
        look = silence.Look(began=began, ended=self._clock.boot(), renewed=renewed)
        self._reached_at = look.ended
        if not silence.doubtful(self.record, look, self.limits):
            return look
        await self._queue.renew(self._node(), ())
        return silence.Look(began=began, ended=self._clock.boot(), renewed=renewed, wrote=True)

    def _say(self, held_up: str) -> None:
        if held_up and not self._held_up:
            log.warning("nobody is taken for silent until all had time to come back", why=held_up)
        self._held_up = bool(held_up)

    async def _pause(self) -> None:
        """Until the next look is due. What coordination says of itself is heard at once."""
        seconds = self._pace if self.record.quiet or self._held_up else REST_SECONDS
        if not self._held_up and (ripe := silence.ripe_at(self.record, self.limits)) is not None:
            seconds = min(seconds, max(SHORTEST_SECONDS, (ripe - self._clock.boot()) / silence.NS))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.woken.wait()
