"""From messages to jobs: whatever arrived while the last commit ran is stored by the next one, and begun where a slot was free.

One coroutine does it, for all brokers of the node. A message is acknowledged after its job is in the store, when `window` says
so. While the store takes nothing, nothing is kept here: the messages go back to their brokers and wait there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import structlog

from callboard import errors
from callboard.brokers import link as links
from callboard.jobs import engine as seam
from callboard.jobs import kinds as known
from callboard.jobs import lanes, model, replies, states
from callboard.jobs import queue as queues
from callboard.kit import backoff
from callboard.roles.bridge import messages
from callboard.roles.bridge.answers import Answers
from callboard.roles.bridge.feed import Delivery, Feed
from callboard.roles.bridge.window import WARM_SECONDS, Windows

log = structlog.get_logger()

MOST: Final = 1_000
"""Messages that are stored together."""
MOST_BYTES: Final = 4 * 1024 * 1024
"""And what their bodies take, if they are several."""
AWAY_FIRST_SECONDS: Final = 0.1
AWAY_MOST_SECONDS: Final = 5.0


class Door(Protocol):
    """The way into the worker beside which this runs. All on its event loop; nothing here waits."""

    node: bytes
    """Who owns the claims."""
    slots: int

    @property
    def limits(self) -> lanes.Limits:
        """How many jobs of each lane may come in now."""

    @property
    def expected(self) -> Collection[tuple[str, bytes]]:
        """Jobs that have a slot and are not begun."""

    def runs(self, job: model.Job) -> bool:
        """Whether the worker runs jobs like this one."""

    def has(self, job: model.Job) -> bool:
        """Whether this claim of a job is held there already."""

    def hold(self, job: model.Job) -> bool:
        """Take a slot for a job that is about to be stored as claimed; False when there is none."""

    def let(self, job: model.Job) -> None:
        """Give a slot back that `hold` took."""

    def begin(self, jobs: Iterable[model.Job]) -> None:
        """Run jobs that have a slot and are the node's own in the store."""

    def book(self, booked: int, waits: bool) -> None:
        """Say how many free slots are kept for jobs on their way, and whether more jobs wait outside than were asked for."""


class Intake:
    """Stores what feeds hand it. A `feed.Told`. `serve` is run as a task."""

    def __init__(
        self,
        store: queues.Queue,
        door: Door,
        kinds: Mapping[str, known.Kind],
        windows: Windows[Delivery],
        answers: Answers,
    ) -> None:
        self.put = self.claimed = self.duplicates = self.dead = 0
        """Since the start: jobs stored, those of them claimed with it, messages of jobs that were there, messages put aside."""
        self.feeds: Sequence[Feed] = ()
        self._store = store
        self._door = door
        self._kinds = kinds
        self._windows = windows
        self._answers = answers
        self._inbox: list[Delivery] = []
        self._bell: asyncio.Future[None] | None = None
        self._closing = False
        self._unsure: list[model.Job] = []
        """Jobs of which nobody knows whether they were stored; they keep their slots until it is known."""
        self._away = False
        self._delays = backoff.Backoff(AWAY_FIRST_SECONDS, AWAY_MOST_SECONDS)
        self._looking = False
        self._cooling: asyncio.TimerHandle | None = None
        self._aside: set[asyncio.Task[None]] = set()

    def arrived(self, deliveries: list[Delivery]) -> None:
        """Take messages, to be stored with the next commit."""
        self._inbox += deliveries
        self._ring()

    def look(self) -> None:
        """See in a moment which acknowledgements are due; once for all that happens in one turn of the loop."""
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_soon(self._acknowledge)

    def close(self) -> None:
        """Store nothing more; `serve` ends with the commit under way."""
        self._closing = True
        self._ring()

    def end(self) -> None:
        """Drop what is under way beside `serve`."""
        if self._cooling is not None:
            self._cooling.cancel()
        for task in self._aside:
            task.cancel()

    async def serve(self) -> None:
        """Go on until closed or cancelled."""
        while not self._closing:
            if not self._inbox:
                self._bell = asyncio.get_running_loop().create_future()
                await self._bell
                continue
            try:
                full = await self._take(self._next())
            except Exception as error:
                await self._stay_away(error)
            else:
                if full is not None:
                    await self._stay_away(errors.StoreFull(f"the store holds its limit of {full.limit} jobs"))

    def _next(self) -> list[Delivery]:
        """Return what is stored together."""
        number = size = 0
        for delivery in self._inbox[:MOST]:
            size += len(delivery.message.body)
            if number and size > MOST_BYTES:
                break
            number += 1
        batch, self._inbox = self._inbox[:number], self._inbox[number:]
        return batch

    def _ring(self) -> None:
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)

    # Storing

    async def _take(self, batch: list[Delivery]) -> seam.Full | None:
        """Store messages' jobs and begin those that got a slot. Returns why the store took not all of them, if it did not."""
        now = self._store.clock.now()
        deliveries: list[Delivery] = []
        puts: list[tuple[model.Job, int]] = []
        for delivery in batch:
            if not delivery.window.open:
                continue  # The broker has given it to somebody else.
            read = self._read(delivery, now)
            if isinstance(read, messages.Bad):
                self._put_aside(delivery, read)
                continue
            deliveries.append(delivery)
            puts.append((self._claimed(read.job, now), read.sent))
        return await self._put(deliveries, puts) if puts else None

    async def _put(self, deliveries: list[Delivery], puts: list[tuple[model.Job, int]]) -> seam.Full | None:
        """Store jobs in one commit. Halves of them that are too large together; one that is too large alone is put aside."""
        try:
            results = await self._store.submit_claimed(puts)
        except errors.TooLarge as error:
            if len(puts) == 1:
                self._drop([job for job, _ in puts], error)
                self._put_aside(deliveries[0], messages.unstorable(error))
                return None
        except Exception as error:
            self._drop([job for job, _ in puts], error)
            raise
        else:
            return self._note(deliveries, puts, results)
        middle = len(puts) // 2
        try:
            full = await self._put(deliveries[:middle], puts[:middle])
        except Exception:
            self._drop([job for job, _ in puts[middle:]], errors.StoreUnavailable("not tried"))
            raise
        return await self._put(deliveries[middle:], puts[middle:]) or full

    def _read(self, delivery: Delivery, now: int) -> messages.Read | messages.Bad:
        message = delivery.message
        if message.dropped:
            return messages.oversized(message.dropped, links.MOST_BYTES)
        return messages.read(message.headers, message.body, delivery.meant, self._kinds, now, delivery.feed.name)

    def _claimed(self, job: model.Job, now: int) -> model.Job:
        """The job as it is put: claimed for here when it may run now and there is a slot."""
        if job.state is not model.State.AVAILABLE or not self._door.runs(job):
            return job
        if self._door.hold(job):
            return states.claimed(job, self._door.node, now)
        self._windows.strand(job.lane, self._door.limits)
        return job

    def _drop(self, jobs: list[model.Job], error: Exception) -> None:
        """Free the slots of jobs that were not stored; those that may have been keep theirs until that is known."""
        unknown = not isinstance(error, errors.CallboardError) or bool(error.data.get("unknown"))
        for job in jobs:
            if job.node is not None:
                if unknown:
                    self._unsure.append(job)
                else:
                    self._door.let(job)
        self.look()

    def _note(
        self, deliveries: list[Delivery], puts: list[tuple[model.Job, int]], results: Sequence[seam.Result]
    ) -> seam.Full | None:
        begun: list[model.Job] = []
        full = None
        for delivery, (job, _), result in zip(deliveries, puts, results, strict=True):
            if isinstance(result, seam.Created):
                self.put += 1
                if job.node is not None:
                    begun.append(job)
                delivery.window.stored.append(delivery)
                continue
            if job.node is not None:
                self._door.let(job)
            if isinstance(result, seam.Same):
                self.duplicates += 1
                delivery.window.stored.append(delivery)
                if result.state in model.TERMINAL and replies.owed(job):
                    self._aside_do(self._answer_again(job))
            elif isinstance(result, seam.Full):
                full = result
            else:
                self._put_aside(delivery, messages.refused(result))
        self.claimed += len(begun)
        if begun:
            self._door.begin(begun)
        if full is None:
            self._is_back()
        self.look()
        return full

    def _put_aside(self, delivery: Delivery, bad: messages.Bad) -> None:
        self.dead += 1
        log.warning("bad message", destination=delivery.meant.name, message=delivery.message.id, why=bad.reason)
        self._aside_do(self._to_dead_letters(delivery, bad))

    async def _to_dead_letters(self, delivery: Delivery, bad: messages.Bad) -> None:
        await delivery.feed.dead_letter(delivery, bad.reason)
        self.look()

    async def _answer_again(self, job: model.Job) -> None:
        """Somebody sent a message again, of a job that has ended since: maybe the reply was lost with its reader."""
        try:
            found = await self._store.get(job.domain, job.id)
            if found is not None and found.finished:
                await self._answers.say(found, job.meta)
        except errors.CallboardError as error:
            log.warning("no second reply", job=job.id.hex(), why=error.message)

    def _aside_do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="callboard-bridge-aside")
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    # Acknowledging

    def _acknowledge(self) -> None:
        self._looking = False
        loop = asyncio.get_running_loop()
        for _, deliveries in self._windows.due(self._door.limits, loop.time()):
            deliveries[0].feed.ack(deliveries)
        self._door.book(self._windows.asked, self._windows.starved)
        if self._cooling is None and self._windows.asked:
            self._cooling = loop.call_later(WARM_SECONDS, self._cool)

    def _cool(self) -> None:
        self._cooling = None
        self._windows.cool(asyncio.get_running_loop().time())
        self._acknowledge()

    # While the store is away

    async def _stay_away(self, error: Exception) -> None:
        """Give the messages back, and take them again when the store can be written."""
        if not isinstance(error, errors.CallboardError):
            log.error("messages could not be stored", exc_info=error)
        elif not self._away:
            log.warning("the store takes no messages' jobs: they wait in their brokers", why=error.message)
        self._away = True
        for feed in self.feeds:
            feed.shut()
        self._inbox.clear()
        while not self._closing:
            await self._rest(self._delays.failed())
            try:
                await self._find()
            except errors.StoreError:
                continue
            except Exception as error:
                log.error("what became of messages could not be found out", exc_info=error)
                continue
            if not self._closing:
                for feed in self.feeds:
                    feed.open()
            return

    async def _rest(self, seconds: float) -> None:
        self._bell = asyncio.get_running_loop().create_future()
        timer = asyncio.get_running_loop().call_later(seconds, self._ring)
        try:
            await self._bell
        finally:
            timer.cancel()

    async def _find(self) -> None:
        """Begin the jobs that the store took although it could not say so.

        Something is written first: after that, what was open until then is made for good, or never will be.
        """
        await self._store.renew(self._door.node, ())
        unsure = self._unsure
        found = await self._store.get_many([job.key for job in unsure]) if unsure else []
        self._unsure = []
        ours = [job for job in found if job is not None and job.node == self._door.node and job.fence == 1]
        ours = [job for job in ours if job.state is model.State.RUNNING and not self._door.has(job)]
        mine = {job.key for job in ours}
        for job in unsure:
            if job.key not in mine:
                self._door.let(job)
        self._door.begin(ours)
        self.look()

    def _is_back(self) -> None:
        self._delays.succeeded()
        if self._away:
            self._away = False
            log.info("the store takes messages' jobs again")
