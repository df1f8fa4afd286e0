"""A node, put together: settings → coordination, engine, hints, queue → role. One process, one role for now.

`Node` is what `python -m callboard.node` runs. It ticks its beat, keeps its entry true, and says when it wants to end. Roles are
imported only where they are hosted: a worker never pays for the HTTP server's memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import structlog

from callboard import app, errors
from callboard.coordination import engine as coordination
from callboard.jobs import engine, hub_hints, queue
from callboard.kit import beat, clock, lifecycle
from callboard.node import layout, processes
from callboard.roles import role

TICK_SECONDS: Final = 0.5
FACTS_SECONDS: Final = 2.0
"""How long changed facts may wait until others can read them."""

log = structlog.get_logger()


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What a role is built from."""

    record: layout.NodeRecord
    queue: queue.Queue
    app: app.Callboard
    beat: beat.Beat
    coordination: coordination.Engine


class Hosted(msgspec.Struct, frozen=True):
    """A role, and what is to be done before it starts: returns an admin key if one was made."""

    role: role.Role
    prepare: Callable[[], Awaitable[str | None]] | None = None


def worker(parts: Parts) -> Hosted:
    """Build the role that runs handlers."""
    from callboard.roles import worker  # Here, so that a gateway does not load it.

    given = parts.record.settings.worker
    made = worker.Worker(
        parts.queue,
        parts.app,
        node=parts.record.node,
        slots=given.slots,
        domains=given.domains,
        queues=list(given.queues) if given.queues is not None else None,
        short_floor=given.short_floor,
        beat=parts.beat,
        log_level=parts.record.settings.log.level,
        log_form=parts.record.settings.log.form,
    )
    return Hosted(made)


def gateway(parts: Parts) -> Hosted:
    """Build the role that answers HTTP. The first gateway also sees to it that the local commands have a key."""
    from callboard.node import access  # Both here, so that a worker does not load Litestar and uvicorn.
    from callboard.roles import gateway

    given = parts.record.settings.gateway

    async def entries() -> list[coordination.Entry]:
        return await asyncio.to_thread(parts.coordination.entries, layout.NODES)

    async def prepare() -> str | None:
        return await access.ensure(parts.queue, parts.record.settings)

    made = gateway.Gateway(
        parts.queue,
        parts.app.kinds,
        host=given.host,
        port=given.port + parts.record.index,
        entries=entries,
        max_body_bytes=given.max_body_bytes,
    )
    return Hosted(made, prepare if parts.record.index == 0 else None)


ROLES: Final[Mapping[str, Callable[[Parts], Hosted]]] = {"worker": worker, "gateway": gateway}


class Node(lifecycle.Lifecycle):
    """One node's life. What it is given is its own from then on: `stop` closes all of it, also after a failed start."""

    def __init__(
        self,
        record: layout.NodeRecord,
        session: coordination.Session,
        pulse: beat.Beat,
        store: engine.Engine,
        application: app.Callboard,
    ) -> None:
        super().__init__()
        self.wants_restart = asyncio.Event()
        self._record = record
        self._session = session
        self._beat = pulse
        self._clock = clock.SystemClock()
        place = layout.Layout(record.settings.directory)
        self._hints = hub_hints.HubHints(place.hub)
        self._queue = queue.Queue(store, clock=self._clock, hints=self._hints)
        hosted = ROLES[record.role](
            Parts(record=record, queue=self._queue, app=application, beat=pulse, coordination=place.coordination())
        )
        self._role = hosted.role
        self._prepare = hosted.prepare
        self.new_key: str | None = None
        """The admin key, when it was made at this start."""
        self._tasks: list[asyncio.Task[None]] = []

    def facts(self) -> dict[str, object]:
        """Return what the node's entry says of its role."""
        return {"role": self._role.name, **self._role.facts()}

    async def _start(self) -> None:
        self._tasks = [asyncio.create_task(self._tick(), name="tick")]
        await self._hints.start()
        await self._queue.start()
        if self._prepare is not None:
            self.new_key = await self._prepare()
        await self._role.start()
        await asyncio.to_thread(put_entry, self._session, self._record, [self.facts()])
        self._tasks.append(asyncio.create_task(self._keep_facts(), name="facts"))

    async def _drain(self, grace_seconds: float) -> None:
        await self._role.drain(grace_seconds)

    async def _stop(self) -> None:
        """The beat goes on and the session lives until all that could still write has ended."""
        await self._role.stop()
        await self._queue.stop()
        await self._hints.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._session.close()

    async def _tick(self) -> None:
        while True:
            self._beat.tick(self._clock.boot())
            if getattr(self._role, "wants_restart", False):
                self.wants_restart.set()
            await asyncio.sleep(TICK_SECONDS)

    async def _keep_facts(self) -> None:
        """A task of its own: a slow disk must not hold up the beat."""
        said: dict[str, Any] = self.facts()
        while True:
            await asyncio.sleep(FACTS_SECONDS)
            if (now := self.facts()) != said:
                with contextlib.suppress(errors.DataUnusable):  # As on a full disk: said again in a moment.
                    await asyncio.to_thread(put_entry, self._session, self._record, [now])
                    said = now


_STARTED_AT: Final = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def put_entry(session: coordination.Session, record: layout.NodeRecord, roles: list[dict[str, object]]) -> None:
    """Write the node's entry. Blocks for a small file. Raises DataUnusable."""
    process = processes.this()
    entry = layout.NodeEntry(
        pid=os.getpid(),
        pid_started=process.started,
        started_at=_STARTED_AT,
        incarnation=record.incarnation,
        roles=roles,
    )
    session.put(layout.NODES + record.incarnation, msgspec.json.encode(entry))
