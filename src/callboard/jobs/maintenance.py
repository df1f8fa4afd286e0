"""What keeps a store in order beside the workers: due jobs become available, old ones go, the claims of the dead end.

`Maintenance` is done by the domain controllers, and by the agents for domains that have none just now; `Expiry` by each agent for
its own nodes. Both only ask the `Queue`; both go on when the store was away. Nothing here decides who is dead.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Sequence
from typing import Final

import structlog

from callboard import errors
from callboard.jobs import engine, model, queue
from callboard.kit import backoff, clock, lifecycle

PERIOD_SECONDS: Final = 0.5
"""Between two looks. Workers promote what they can take by themselves; this is for what nobody is asking for just now."""
PROMOTED_AT_ONCE: Final = 1_000
PURGED_AT_ONCE: Final = 2_000
PURGES_IN_A_ROUND: Final = 20
AGE_LOOK_SECONDS: Final = 10.0
"""Between two looks for what is too old, while there are not too many."""
DUE: Final = frozenset({model.State.SCHEDULED, model.State.RETRYABLE})

log = structlog.get_logger()


def everywhere(domain: str) -> bool:
    """The domains of one who keeps the whole store."""
    return True


class Maintenance(lifecycle.Lifecycle):
    """Promotes and purges until stopped. `serves` tells which domains are its business; it is asked in each round.

    `guards` go into every unit. When one is refused, `superseded` is called once, and nothing is done any more.
    """

    def __init__(
        self,
        queue: queue.Queue,
        *,
        age_seconds: float,
        keep: int,
        serves: Callable[[str], bool] = everywhere,
        guards: engine.Unit = (),
        superseded: Callable[[], None] | None = None,
        spare_seconds: float = model.SPARE_SECONDS,
        period_seconds: float = PERIOD_SECONDS,
    ) -> None:
        """`age_seconds`: how long finished jobs are kept. Less where the store says so (`Abilities.age_seconds`), but never less
        than `spare_seconds`.
        """
        super().__init__()
        self._queue = queue
        most = queue.engine.abilities.age_seconds
        if most is not None:
            age_seconds = min(age_seconds, max(most, spare_seconds))
        self._age = round(age_seconds * clock.SECOND)
        self._keep = keep
        self._serves = serves
        self._guards = guards
        self._superseded = superseded
        self._spare = round(spare_seconds * clock.SECOND)
        self._period = period_seconds
        self._aged: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    async def round(self) -> bool:
        """Do what is due now; True when there is more of it. Raises StoreError, DocumentConflict."""
        more = False
        for domain in filter(self._serves, await self._queue.domains()):
            counts = await self._queue.counts(domain)
            more |= await self._promote(counts)
            more |= await self._purge(domain, counts)
        return more

    async def _start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="maintenance")

    async def _stop(self) -> None:
        await _ended(self._task)

    async def _run(self) -> None:
        delays = backoff.Backoff(self._period, 5.0)
        while True:
            try:
                more = await self.round()
                delays.succeeded()
                delay = 0.0 if more else self._period
            except errors.StoreError as error:
                delay = delays.failed()
                log.warning("maintenance waits for the store", code=error.code, why=error.message)
            except errors.DocumentConflict:
                if self._superseded is not None:
                    self._superseded()
                return
            except Exception:
                delay = delays.failed()
                log.exception("maintenance failed")  # A bug: told, and no reason to stop doing the rest.
            await asyncio.sleep(delay)

    async def _promote(self, counts: Sequence[model.Count]) -> bool:
        pairs = tuple({(count.domain, count.queue): None for count in counts if count.state in DUE and count.jobs})
        if not pairs:
            return False
        promote = engine.Promote(pairs, PROMOTED_AT_ONCE, self._queue.clock.now())
        match await self._queue.guarded(promote, self._guards):
            case engine.Promoted(jobs):
                return jobs == PROMOTED_AT_ONCE
        return False

    async def _purge(self, domain: str, counts: Sequence[model.Count]) -> bool:
        finished = sum(count.jobs for count in counts if count.state in model.TERMINAL)
        if not finished or not (finished > self._keep or self._time_to_look(domain)):
            return False
        for _ in range(PURGES_IN_A_ROUND):
            now = self._queue.clock.now()
            purge = engine.Purge(domain, now - self._age, self._keep, now - self._spare, PURGED_AT_ONCE)
            match await self._queue.guarded(purge, self._guards):
                case engine.Purged(jobs) if jobs == PURGED_AT_ONCE:
                    continue
            return False
        self._aged.pop(domain, None)
        return True

    def _time_to_look(self, domain: str) -> bool:
        now = self._queue.clock.boot()
        if now < self._aged.get(domain, 0):
            return False
        self._aged[domain] = now + round(AGE_LOOK_SECONDS * 1e9)
        return True


class Expiry(lifecycle.Lifecycle):
    """Ends the claims of dead nodes at once, and keeps at it while the store is away. `expired` hears (node, its jobs)."""

    def __init__(self, queue: queue.Queue, expired: Callable[[bytes, Sequence[model.Job]], None]) -> None:
        super().__init__()
        self._queue = queue
        self._expired = expired
        self._dead: dict[bytes, None] = {}
        self._news = asyncio.Event()
        self._rest = asyncio.Event()
        self._rest.set()
        self._task: asyncio.Task[None] | None = None

    def dead(self, node: bytes) -> None:
        """Say that a node is dead for good. Only for the one who made sure."""
        self._dead[node] = None
        self._news.set()
        self._rest.clear()

    @property
    def due(self) -> Collection[bytes]:
        """The dead whose claims may not have been ended yet."""
        return self._dead.keys()

    async def settled(self) -> None:
        """Return when no dead node is left with claims, as far as was said."""
        await self._rest.wait()

    async def _start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="expiry")

    async def _stop(self) -> None:
        await _ended(self._task)

    async def _run(self) -> None:
        delays = backoff.Backoff(0.1, 2.0)
        while True:
            await self._news.wait()
            try:
                await self._expire(next(iter(self._dead)))
                delays.succeeded()
            except errors.StoreError as error:
                delay = delays.failed()
                log.warning("the dead wait for the store", nodes=len(self._dead), code=error.code, why=error.message)
                await asyncio.sleep(delay)
            except Exception:
                log.exception("expiry failed")  # A bug: told, and tried again, since jobs wait for it.
                await asyncio.sleep(delays.failed())

    async def _expire(self, node: bytes) -> None:
        jobs = await self._queue.expire([node])
        del self._dead[node]
        self._expired(node, jobs)
        if not self._dead:
            self._news.clear()
            self._rest.set()


async def _ended(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
