"""Keeps a registry's book true to coordination, and goes on with the last known state while that is out of reach.

When coordination comes back, sessions may have expired although their processes live: what vanished then is kept for a while,
until the others have said again that they are there.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from callboard import errors
from callboard.coordination import engine, heeding
from callboard.kit import backoff
from callboard.names import directory, model

FOLDERS: Final = (model.ACTIVE, model.CANDIDATES, model.NODES)
SETTLE_SHARE: Final = 2.0
"""For how many times the granted session time nodes that vanished in an outage are kept after it."""
FORGET_SECONDS: Final = 30.0
"""How long a label without any instance stays known: callers wait for it meanwhile, as when its last node restarts."""
RETRY_FIRST_SECONDS: Final = 0.05
RETRY_MOST_SECONDS: Final = 1.0
log = structlog.get_logger("callboard.registry")


class Feed(heeding.Heeding):
    """Reads folders after word of a change; `changed` hears which seats that changed. On the session's loop."""

    def __init__(
        self,
        session: engine.Session,
        book: directory.Directory,
        changed: Callable[[set[directory.Seat]], None],
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(session, FOLDERS)
        self.loaded = False
        """Whether the book was read at all."""
        self._book = book
        self._changed = changed
        self._chance = chance
        self._nodes: Sequence[engine.Entry] = ()
        self._was_out = False
        self._settled_at = 0.0
        self._vacant: dict[str, float] = {}
        self._told_stale: set[directory.Seat] = set()
        self.woken.set()

    @property
    def stale(self) -> bool:
        """Whether what the book says is the last known state only."""
        return self._session.state is not engine.State.CONNECTED

    def told_stale(self, seat: directory.Seat) -> None:
        """Somebody was told that the answer of a seat is stale: it counts as changed when that is over."""
        self._told_stale.add(seat)

    def _turned(self, state: engine.State) -> None:
        log.info("coordination", state=state.value)
        self._was_out |= state is not engine.State.CONNECTED

    async def _keep(self) -> None:
        wait = backoff.Backoff(RETRY_FIRST_SECONDS, RETRY_MOST_SECONDS, self._chance)
        while True:
            due = self._next_duty()
            try:
                async with asyncio.timeout_at(due):
                    await self.woken.wait()
            except TimeoutError:
                self._old.add(model.NODES)
            self.woken.clear()
            try:
                await self._read()
                wait.succeeded()
            except errors.CoordinationError:
                self.woken.set()
                await asyncio.sleep(wait.failed())

    async def _read(self) -> None:
        """Read what changed: first who holds offices, so that who left both is missed in neither order for long."""
        seats: set[directory.Seat] = set()
        while self._old:
            folder = min(self._old)
            seats |= self._fed(folder, await heeding.reread(self._session, folder, self._old))
        seats |= self._forgotten()
        self.loaded = True
        if not self.stale:
            seats |= self._told_stale
            self._told_stale = set()
        if seats:
            self._changed(seats)

    def _fed(self, folder: str, entries: Sequence[engine.Entry]) -> set[directory.Seat]:
        if folder == model.ACTIVE:
            return self._book.offices(entries)
        if folder == model.CANDIDATES:
            return self._book.candidates(entries)
        return self._book.nodes(self._settling(entries))

    def _settling(self, entries: Sequence[engine.Entry]) -> Sequence[engine.Entry]:
        """Return the entries, and those from before an outage that are not back yet."""
        now = asyncio.get_running_loop().time()
        if self._was_out and self._session.state is engine.State.CONNECTED:
            self._was_out = False
            self._settled_at = now + self._session.granted_seconds * SETTLE_SHARE
        if self._settled_at:
            if now < self._settled_at:
                back = {entry.path for entry in entries}
                entries = [*entries, *(entry for entry in self._nodes if entry.path not in back)]
            else:
                self._settled_at = 0.0
        self._nodes = entries
        return entries

    def _forgotten(self) -> set[directory.Seat]:
        now = asyncio.get_running_loop().time()
        vacant = self._book.vacant()
        self._vacant = {label: self._vacant.get(label, now) for label in vacant}
        seats: set[directory.Seat] = set()
        for label, since in tuple(self._vacant.items()):
            if now - since >= FORGET_SECONDS:
                del self._vacant[label]
                seats |= self._book.forget(label)
        return seats

    def _next_duty(self) -> float | None:
        """Return when something is to be done without word of a change."""
        times = [since + FORGET_SECONDS for since in self._vacant.values()]
        if self._settled_at:
            times.append(self._settled_at)
        return min(times, default=None)
