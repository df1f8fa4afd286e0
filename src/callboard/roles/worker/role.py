"""The worker role: what a node hosts to run handlers. Its parts are told in the package's text."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final

import structlog

from callboard import app as apps
from callboard import errors
from callboard.jobs import lanes, model
from callboard.jobs import queue as queues
from callboard.kit import beat as beats
from callboard.kit import grammar
from callboard.roles import role
from callboard.roles.worker import claims, door, loop, processes, runs, threads
from callboard.roles.worker.run import Place, Why

log = structlog.get_logger()

ABANDON_SECONDS: Final = 2.0
HAND_BACK_SECONDS: Final = 5.0
"""How long a stopping worker waits for the store to take what it hands back."""


class Worker(role.Role):
    """Claims jobs for its free slots, runs their handlers, settles them. On one event loop, beside a started `Queue`."""

    name: ClassVar[str] = "worker"
    poll_seconds: float = 1.0
    """How often an idle worker looks whether a hint was lost."""
    renew_seconds: float = 1.0
    """How often it tells the store what it runs, and hears who wants it to end: one operation for all."""

    def __init__(
        self,
        queue: queues.Queue,
        app: apps.Callboard,
        *,
        node: bytes,
        slots: int,
        domains: Sequence[str] = (grammar.DEFAULT_DOMAIN,),
        queues: Sequence[str] | None = None,
        short_floor: int | None = None,
        beat: beats.Beat | None = None,
        abandon_seconds: float = ABANDON_SECONDS,
        log_level: str = "info",
        log_form: str = "text",
        beside: apps.Callboard | None = None,
    ) -> None:
        """`node` is the incarnation that owns the claims; `slots` handlers run at a time, `short_floor` of them only for short
        jobs (None: see `lanes.floor`). Jobs come from `queues` (None: those that the app's kinds declare) of `domains`.
        `abandon_seconds` is what a handler gets to end after it was told to, before its claim ends without it.
        `beside` is an app of the house whose jobs are run, too (see `open_door`).
        """
        super().__init__()
        kinds = app.kinds.values()
        self._more = beside if beside is not None else apps.Callboard("callboard")
        self._more_from: Sequence[tuple[str, str]] = ()
        self._app = app
        self._queue = queue
        self._node = node
        self._domains = tuple(domains)
        self._queues = tuple(queues) if queues is not None else tuple(sorted({kind.queue for kind in kinds}))
        self._log = (log_level, log_form)
        self._abandon_seconds = abandon_seconds
        floor = lanes.floor(slots, short_floor, any(kind.lane is model.Lane.SHORT for kind in kinds))
        self._runs = runs.Runs({**self._more.handlers, **app.handlers}, slots, floor, queue.clock, beat, abandon_seconds)
        known = tuple((each.kind.name, each.kind.versions) for each in (*app.handlers.values(), *self._more.handlers.values()))
        sources = [(domain, name) for domain in self._domains for name in self._queues] if kinds else []
        self._claims = claims.Claims(queue, node, self._runs, known, sources, self.poll_seconds)
        self._sources = frozenset(sources)
        self._stop_listening: Callable[[], None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def takes_from(self) -> tuple[tuple[str, str], ...]:
        """The (domain, queue) pairs from which it takes jobs of the app."""
        return tuple(sorted(self._sources))

    def open_door(self, more: Sequence[tuple[str, str]] = ()) -> door.Door:
        """Have others bring jobs beside those that are claimed, and claim from `more` pairs, too; once, before the start."""
        self._more_from = tuple(more)
        self._claims.take_from(more)
        made = door.Door(
            self._runs, self._claims, self._node, {kind.name: kind.versions for kind in self._app.kinds.values()}, self._sources
        )
        self._claims.door = made
        return made

    def facts(self) -> Mapping[str, Any]:
        return {
            "kinds": {kind.name: list(kind.versions) for kind in (*self._app.kinds.values(), *self._more.kinds.values())},
            "slots": self._runs.slots,
            "domains": list(self._domains),
            "queues": [*self._queues, *sorted({name for _, name in self._more_from})],
            "running": len(self._runs.running),
        }

    async def ping(self) -> Mapping[str, Any]:
        return {**await super().ping(), **self.stats()}

    def stats(self) -> Mapping[str, int]:
        """Return what is here now (running, abandoned, unsettled) and counters since the start (claimed, settled, refused)."""
        return {
            "running": len(self._runs.running),
            "abandoned": self._runs.abandoned,
            "unsettled": self._claims.unsettled,
            "claimed": self._claims.claimed,
            "settled": self._claims.settled,
            "refused": self._claims.refused,
        }

    @property
    def wants_restart(self) -> bool:
        """Whether only a new process helps: half of the slots are taken by handlers that do not end, or a part of this failed."""
        return self._runs.wants_restart or (self.ready and any(task.done() for task in self._tasks))

    async def _start(self) -> None:
        limit = model.MAX_PAYLOAD
        places: Mapping[str, Place] = {
            "loop": loop.Loop(self._runs, limit),
            "thread": threads.Threads(self._runs, limit),
            "process": processes.Processes(self._runs, limit, *self._log),
        }
        self._runs.places = places
        self._app.fall_back(self._app.connect(self._queue))
        self._stop_listening = self._queue.hints.listen(self._claims.hear)
        self._tasks = [
            asyncio.create_task(self._claims.serve(), name="callboard-claims"),
            asyncio.create_task(self._renew(), name="callboard-renew"),
        ]
        for task in self._tasks:
            task.add_done_callback(_note_end)

    async def _drain(self, grace_seconds: float) -> None:
        """Running handlers get their grace; after it those that still run are told to end, and are handed back."""
        self._claims.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                await self._claims.quiet()
                return
        await self._cut_off()

    async def _stop(self) -> None:
        if self._tasks:
            self._claims.close()
            await self._cut_off()
        if self._stop_listening is not None:
            self._stop_listening()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(place.close() for place in self._runs.places.values()))
        self._app.fall_back(None)
        self._runs.tell()

    async def _cut_off(self) -> None:
        self._runs.stop_all(Why.DRAIN)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._abandon_seconds):
                await self._claims.quiet()
                return
        self._runs.abandon_all()
        try:
            async with asyncio.timeout(HAND_BACK_SECONDS):
                await self._claims.quiet()
        except TimeoutError:
            log.error("the store took no results before the end: their jobs will run again", results=self._claims.unsettled)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self.renew_seconds)
            if not (self._runs.running or self._claims.unsettled):
                continue
            held = self._runs.claims()
            try:
                renewed = await self._queue.renew(self._node, held)
            except errors.StoreError:
                continue
            self._runs.told(held)
            for claim in renewed.lost:
                self._runs.stop(*claim, Why.LOST)
            for claim in renewed.cancel_requested:
                self._runs.stop(*claim, Why.WISH)


def _note_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a part of the worker failed: the node needs a restart", part=task.get_name(), exc_info=error)
