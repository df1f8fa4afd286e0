"""The bridge role: takes jobs from message brokers for its node's free slots. Its parts are told in the package's text."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import structlog

from callboard import errors
from callboard.brokers import address as addresses
from callboard.brokers import link as links
from callboard.jobs import hints as wake
from callboard.jobs import kinds as known
from callboard.jobs import queue as queues
from callboard.roles import role
from callboard.roles.bridge import destinations, intake
from callboard.roles.bridge import feed as feeds
from callboard.roles.bridge.answers import Answers
from callboard.roles.bridge.feed import Delivery, Feed
from callboard.roles.bridge.window import Windows

log = structlog.get_logger()


class Bridge(role.Role):
    """Consumes the destinations of one or more brokers, beside a worker. On one event loop, beside a started `Queue`."""

    name: ClassVar[str] = "bridge"
    poll_seconds: float = 1.0
    """How often it looks whether a queue was paused or resumed of which no hint came."""

    def __init__(
        self,
        store: queues.Queue,
        door: intake.Door,
        kinds: Mapping[str, known.Kind],
        brokers: Sequence[addresses.Address],
        meant: Sequence[destinations.Destination],
        answers: Answers,
        make: Callable[..., links.Link] = links.Link,
    ) -> None:
        """`door` is the way into the worker, `kinds` what is known of its jobs; `answers` is closed with this."""
        super().__init__()
        self._store = store
        self._meant = tuple(meant)
        self._answers = answers
        windows: Windows[Delivery] = Windows(door.slots)
        self._intake = intake.Intake(store, door, kinds, windows, answers)
        self._feeds = [
            Feed(address, meant, windows, door.slots, self._intake, answers.out(feeds.name(address)), make) for address in brokers
        ]
        self._intake.feeds = self._feeds
        self._windows = windows
        self._tasks: list[asyncio.Task[None]] = []
        self._serving: asyncio.Task[None] | None = None
        self._heard = asyncio.Event()
        self._stop_listening: Callable[[], None] | None = None
        self.freed = self._intake.look
        """To be called when a slot of the worker may be free."""
        self.left = windows.left
        """To be told the lane of each job of the worker that has ended."""

    def facts(self) -> Mapping[str, Any]:
        return {
            "brokers": {feed.name: "connected" if feed.connected else "away" for feed in self._feeds},
            "destinations": [meant.name for meant in self._meant],
            **self.stats(),
        }

    async def ping(self) -> Mapping[str, Any]:
        return {**await super().ping(), **self.stats()}

    def stats(self) -> Mapping[str, int]:
        """Return counters since the start."""
        return {
            "messages": sum(feed.messages for feed in self._feeds),
            "put": self._intake.put,
            "claimed": self._intake.claimed,
            "duplicates": self._intake.duplicates,
            "dead_letters": self._intake.dead,
            "acks": sum(feed.acks for feed in self._feeds),
            "replies": self._answers.sent,
        }

    @property
    def wants_restart(self) -> bool:
        """Whether a part of this failed, and only a new process helps."""
        return self.ready and any(task.done() for task in self._tasks)

    async def _start(self) -> None:
        self._stop_listening = self._store.hints.listen(self._hear)
        self._serving = asyncio.create_task(self._intake.serve(), name="callboard-bridge-intake")
        others = [asyncio.create_task(feed.serve(), name="callboard-bridge-feed") for feed in self._feeds]
        self._tasks = [self._serving, *others, asyncio.create_task(self._watch_pauses(), name="callboard-bridge-pauses")]
        for task in self._tasks:
            task.add_done_callback(_note_end)

    async def _drain(self, grace_seconds: float) -> None:
        """What is stored is acknowledged, all else stays with the brokers. Replies go out until the stop."""
        self._intake.close()
        if self._serving is not None:
            await asyncio.wait([self._serving], timeout=grace_seconds)
        for feed in self._feeds:
            feed.shut()

    async def _stop(self) -> None:
        if self._stop_listening is not None:
            self._stop_listening()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._intake.end()
        await asyncio.gather(*(feed.close() for feed in self._feeds), self._answers.close())

    # Paused queues

    def _hear(self, hint: wake.Hint) -> None:
        if any(path == queues.QUEUES_PATH for _, path in hint.documents):
            self._heard.set()

    async def _watch_pauses(self) -> None:
        domains = sorted({meant.domain for meant in self._meant})
        while True:
            with contextlib.suppress(errors.StoreError):
                paused = {(domain, name) for domain in domains for name in await self._store.paused(domain)}
                for feed in self._feeds:
                    feed.pause(frozenset(paused))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.poll_seconds):
                    await self._heard.wait()
            self._heard.clear()


def _note_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a part of the bridge failed: the node needs a restart", part=task.get_name(), exc_info=error)
