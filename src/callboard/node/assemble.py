"""A node, put together: settings → engine, hints, queue → wiring → roles. One process, one place, one or more roles.

`Node` is what `python -m callboard.node` runs. It ticks its beat, keeps its entry true, and says when it wants to end. Which
roles it hosts is `hosting`'s, how it reaches other nodes `wiring`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import structlog

from callboard import app, errors
from callboard.coordination import sessions
from callboard.jobs import engine, hub_hints, queue
from callboard.kit import beat, clock, lifecycle
from callboard.node import entries, hosting, layout, wiring

TICK_SECONDS: Final = 0.5
FACTS_SECONDS: Final = 2.0
"""How long changed facts may wait until others on this machine can read them."""
SITE_SECONDS: Final = 30.0
"""The same for the site: a busy worker's facts change all the time, what names are looked up by never does, and each change in
coordination is a durable write that everybody hears of."""

log = structlog.get_logger()


class Node(lifecycle.Lifecycle):
    """One node's life. What it is given is its own from then on: `stop` closes all of it, also after a failed start."""

    def __init__(
        self,
        record: layout.NodeRecord,
        session: sessions.ProcessSession,
        pulse: beat.Beat,
        store: engine.Engine,
        application: app.Callboard,
    ) -> None:
        super().__init__()
        self.wants_restart = asyncio.Event()
        self.new_key: str | None = None
        """The admin key, when it was made at this start."""
        self._record = record
        self._session = session
        self._beat = pulse
        self._app = application
        self._clock = clock.SystemClock()
        self._place = layout.Layout(record.settings.directory)
        self._hints = hub_hints.HubHints(self._place.hub)
        self._queue = queue.Queue(store, clock=self._clock, hints=self._hints)
        self._wiring = wiring.Wiring(record, hosting.roles(record), self._clock)
        self._hosted: list[hosting.Hosted] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def _start(self) -> None:
        self._tasks = [asyncio.create_task(self._tick(), name="tick")]
        await self._hints.start()
        await self._queue.start()
        await self._wiring.start()
        self._app.call_through(self._wiring.resolver)
        self._app.look_through(self._wiring.viewing.watched)
        await self._start_roles()
        said = self._entry()
        await asyncio.to_thread(entries.put, self._session, self._record, said)
        await self._wiring.declare(said)
        self._tasks.append(asyncio.create_task(self._keep_facts(said), name="facts"))

    async def _start_roles(self) -> None:
        parts = hosting.Parts(
            record=self._record,
            queue=self._queue,
            app=self._app,
            beat=self._beat,
            clock=self._clock,
            lives=self._place.sessions(),
            wiring=self._wiring,
        )
        for hosted in hosting.build(parts):
            self._hosted.append(hosted)
            if hosted.prepare is not None:
                self.new_key = await hosted.prepare()
            await hosted.role.start()
            self._wiring.table.add(hosted.role)

    async def _drain(self, grace_seconds: float) -> None:
        """All at once: they share the grace time, and what one still runs may call another. Others are told, if they can be."""
        self._tasks.append(asyncio.create_task(self._take_leave(self._entry()), name="leave"))
        await asyncio.gather(*(each.role.drain(grace_seconds) for each in self._hosted))

    async def _take_leave(self, said: bytes) -> None:
        """An agent that starts now is told without delay: it would ask this node to leave again, and so cut its grace off."""
        with contextlib.suppress(errors.DataUnusable):  # As on a full disk.
            await asyncio.to_thread(entries.put, self._session, self._record, said)
        await self._wiring.declare(said)

    async def _stop(self) -> None:
        """The beat goes on and the session lives until all that could still write has ended."""
        for each in reversed(self._hosted):
            self._wiring.table.remove(each.role)
            await each.role.stop()
        self._app.call_through(None)
        self._app.look_through(None)
        await self._wiring.stop()
        await self._queue.stop()
        await self._hints.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._session.close()

    def _entry(self) -> bytes:
        leaving = self.phase is lifecycle.Phase.DRAINING
        return entries.made(self._record, self._hosted, self._wiring.peers.address, draining=leaving)

    async def _tick(self) -> None:
        while True:
            self._beat.tick(self._clock.boot())
            if any(getattr(each.role, "wants_restart", False) for each in self._hosted):
                self.wants_restart.set()
            await asyncio.sleep(TICK_SECONDS)

    async def _keep_facts(self, said: bytes) -> None:
        """A task of its own: a slow disk must not hold up the beat."""
        declared, due = said, self._clock.boot() + SITE_SECONDS * 1e9
        while True:
            await asyncio.sleep(FACTS_SECONDS)
            if (now := self._entry()) != said:
                with contextlib.suppress(errors.DataUnusable):  # As on a full disk: said again in a moment.
                    await asyncio.to_thread(entries.put, self._session, self._record, now)
                    said = now
            if said != declared and self._clock.boot() >= due:
                await self._wiring.declare(said)
                declared, due = said, self._clock.boot() + SITE_SECONDS * 1e9
