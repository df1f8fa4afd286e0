"""The store's side of a worker: ends claims and makes new ones in one commit, for free slots only.

One coroutine does all of it, one exchange at a time, so that no write overtakes an earlier one. It rests until a handler has
ended, a hint says that jobs are ready, or it is time to look (a cheap read). While the store is away it keeps what ended,
claims nothing, and tries again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from callboard import errors
from callboard.jobs import engine as seam
from callboard.jobs import hints as wake
from callboard.jobs import lanes, model, replies
from callboard.jobs import queue as queues
from callboard.kit import backoff, clock
from callboard.roles.worker import door, endings
from callboard.roles.worker.run import Why
from callboard.roles.worker.runs import Runs

log = structlog.get_logger()

AWAY_FIRST_SECONDS: Final = 0.05
AWAY_MOST_SECONDS: Final = 1.0
FOUND_PER_PAGE: Final = 1000
LATE_NS: Final = 1_500_000_000
"""Whoever was held up for so long, half of the shortest lease, may be taken for dead soon: what it claimed may be another's."""
NOTHING: Final = lanes.Limits(0, 0)
EARLIER: Final = 0.25
"""The part of the polling interval by which a look may come earlier: workers that heard the same hint do not look in step."""

Kinds = tuple[tuple[str, tuple[int, ...]], ...]
"""Names of kinds, each with the payload versions understood."""
Ended = seam.Settle | seam.Release


class Claims:
    """Makes and ends the claims of one worker. On one event loop's thread; `serve` is run as a task."""

    def __init__(
        self, store: queues.Queue, node: bytes, runs: Runs, kinds: Kinds, sources: Sequence[tuple[str, str]], poll_seconds: float
    ) -> None:
        self.claimed = self.settled = self.refused = 0
        """Counters since the start: jobs claimed, claims ended in the store, ends that came too late."""
        self._store = store
        self._node = node
        self._runs = runs
        self._kinds = kinds
        self._sources = list(sources)
        """(domain, queue) pairs to claim from; they take turns in being first."""
        self._poll_seconds = poll_seconds
        self.door: door.Door | None = None
        """By which jobs come in that were not claimed here, if any do; set before `serve`."""
        self.asked = lanes.Limits(0, 0)
        """Slots that a claim under way may fill."""
        self._ended: list[Ended] = []
        self._words: dict[int, model.Job] = {}
        """Jobs about whose end a word is owed, by the `id` of what ends them in `_ended`."""
        self._maybe = [True] * (max(model.Lane) + 1)
        """By lane: whether the store may have jobs for us."""
        self._heard = 0
        self._turn = 0
        self._look_due = 0.0
        self._due: asyncio.TimerHandle | None = None
        self._due_at = 0.0
        self._bell: asyncio.Future[None] | None = None
        self._closing = False
        self._over = False
        """`serve` has ended: nothing is written any more."""
        self._quiet = asyncio.Event()
        self._away = False
        self._unsure = False
        """A claim failed, and nobody knows whether the store made it nevertheless; or its answer came too late to be believed."""
        self._delays = backoff.Backoff(AWAY_FIRST_SECONDS, AWAY_MOST_SECONDS)
        runs.ended = self.end
        runs.freed = self.ring

    @property
    def unsettled(self) -> int:
        """Ends of claims that wait for the store, not counting those on their way to it."""
        return len(self._ended)

    def wants(self, limits: lanes.Limits) -> bool:
        """Whether the store may have jobs for slots as free as this."""
        short, long = limits
        return (
            bool(self._sources)
            and not self._closing
            and bool((short and self._maybe[model.Lane.SHORT]) or (long and self._maybe[model.Lane.LONG]))
        )

    @property
    def turn(self) -> int:
        """0 or 1, changing with each claim."""
        return self._turn % 2

    def take_from(self, sources: Sequence[tuple[str, str]]) -> None:
        """Claim from more (domain, queue) pairs."""
        self._sources += sources

    def end(self, op: Ended, job: model.Job) -> None:
        """Take the end of a claim, to be written with the next exchange."""
        self._ended.append(op)
        if replies.owed(job):
            self._words[id(op)] = job
        if self._bell is not None:
            self.ring()

    def ring(self) -> None:
        """Have `serve` look at once whether there is something to do."""
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)

    def look(self) -> None:
        """Claim as soon as a slot is free: jobs may be ready."""
        self._heard += 1
        self._maybe = [True] * len(self._maybe)
        if self._bell is not None and self._runs.limits.short:
            self.ring()

    def hear(self, hint: wake.Hint) -> None:
        """Listen to hints: jobs that are ready, wishes to cancel, queues that were paused or resumed."""
        for node, domain, id in hint.cancelled:
            if node == self._node:
                self._runs.stop(domain, id, None, Why.WISH)
        if any(self._is_ours(*pair) for pair in hint.ready) or any(path == queues.QUEUES_PATH for _, path in hint.documents):
            self.look()

    def _is_ours(self, domain: str, name: str) -> bool:
        return (domain, name) in self._sources or (not name and any(domain == ours for ours, _ in self._sources))

    def close(self) -> None:
        """Claim nothing more; what an exchange under way claims is handed back."""
        self._closing = True
        if self.door is not None:
            self.door.open = False
        if not self._over:
            self._quiet.clear()
        self.ring()

    async def quiet(self) -> None:
        """Wait, after `close`, until no handler runs and every end of a claim is in the store; not when `serve` has failed,
        after which nothing gets there.
        """
        await self._quiet.wait()

    async def serve(self) -> None:
        """Go on until cancelled; not inside an exchange if it can be helped: its claims would be lost sight of."""
        try:
            while True:
                self._runs.tell()
                if self._unsure:
                    await self._find()
                elif self._ended or self.wants(self._limits):
                    await self._exchange()
                else:
                    await self._rest()
        finally:
            self._over = True
            self._quiet.set()

    @property
    def _limits(self) -> lanes.Limits:
        """What may be claimed now."""
        return self._runs.limits if self.door is None else self.door.left_to_claims

    # Exchanging

    async def _exchange(self) -> None:
        ended, self._ended = self._ended, []
        limits, heard, asked_at = self._limits, self._heard, self._store.clock.boot()
        takes: tuple[seam.Take, ...] = ()
        alone = self.door is None  # Else a claim that gets nothing would keep slots from those who bring jobs.
        if self._sources and not self._closing and not (self._away and ended) and (alone or self.wants(limits)):
            takes = self._takes(limits)
            self.asked = limits
        try:
            results, jobs = await self._store.exchange(ended, self._node, takes, limits.short, self._owed(ended))
        except Exception as error:
            self._ended[:0] = ended
            self._unsure = bool(takes)
            self._ask_nothing(takes)
            await self._stay_away(error)
            return
        if takes:
            self._learn(limits, jobs, heard)
        if jobs and self._store.clock.boot() - asked_at > LATE_NS:
            self._unsure = True  # No handler begins before it is known that these claims still stand.
        else:
            self.begin(jobs)
        self._ask_nothing(takes)
        self._note(ended, results)
        if self._words:
            await self._say(ended, results)
        self._is_back()

    def _ask_nothing(self, takes: tuple[seam.Take, ...]) -> None:
        """The slots that a claim could fill are those of whoever brings jobs again, also when it failed."""
        self.asked = NOTHING
        if takes and self.door is not None:
            self.door.freed()

    def _owed(self, ended: list[Ended]) -> Mapping[int, seam.Put]:
        """The words that go with ends of which it is known that they are final."""
        if not self._words:
            return {}
        now = self._store.clock.now()
        return {
            index: replies.put(self._words[id(op)], now)
            for index, op in enumerate(ended)
            if id(op) in self._words and isinstance(op, seam.Settle) and op.outcome.state in model.TERMINAL
        }

    def _takes(self, limits: lanes.Limits) -> tuple[seam.Take, ...]:
        """What the free slots can take. Sources and lanes take turns in being first, so that none starves another."""
        self._turn += 1
        self._sources.append(self._sources.pop(0))
        both = ((model.Lane.SHORT, limits.short), (model.Lane.LONG, limits.long))
        return tuple(
            seam.Take(domain, name, lane, self._kinds, limit)
            for domain, name in self._sources
            for lane, limit in (both if self._turn % 2 else reversed(both))
            if limit
        )

    def _learn(self, limits: lanes.Limits, jobs: list[model.Job], heard: int) -> None:
        """Where a claim got less than it could take, nothing is left, unless somebody said otherwise meanwhile."""
        self._looked()
        if heard != self._heard or len(jobs) >= limits.short:
            return
        short = sum(job.lane is model.Lane.SHORT for job in jobs)
        self._maybe[model.Lane.SHORT] = False
        if len(jobs) - short < limits.long:
            self._maybe[model.Lane.LONG] = False

    def _looked(self) -> None:
        self._look_due = asyncio.get_running_loop().time() + self._poll_seconds * (1 - EARLIER * random.random())

    def begin(self, jobs: list[model.Job]) -> None:
        """Run jobs that are claimed for here; once closed, hand them back."""
        self.claimed += len(jobs)
        if self._closing:
            self._ended += [endings.released(job, self._store.clock.now()) for job in jobs]
            self.ring()
        elif jobs:
            self._runs.begin(jobs)

    def _note(self, ended: list[Ended], results: Sequence[seam.Result]) -> None:
        due = 0
        for op, result in zip(ended, results, strict=True):
            if isinstance(result, seam.Lost):
                self._note_lost(op, result)
            elif isinstance(op, seam.Settle) and op.outcome.state is model.State.RETRYABLE:
                due = min(due or op.outcome.run_at, op.outcome.run_at)
        self.settled += len(ended)
        if due:
            self._look_at(due)

    async def _say(self, ended: list[Ended], results: Sequence[seam.Result]) -> None:
        """Have a word said of ends that turned out to be final: after a wish to cancel, or in a handler's own transaction."""
        for op, result in zip(ended, results, strict=True):
            job = self._words.pop(id(op), None)
            final = isinstance(op, seam.Settle) and op.outcome.state in model.TERMINAL
            said = final and isinstance(result, seam.Settled)
            if job is not None and not said and getattr(result, "state", None) in model.TERMINAL:
                await self._store.say([job])

    def _note_lost(self, op: Ended, result: seam.Lost) -> None:
        """An end that was tried before may have been written then, though nobody could say so: that is no loss. Neither is one
        that the handler wrote in a transaction of its own.
        """
        if result.fence == op.fence and result.state is model.State.COMPLETED:
            self._store.hints.publish(wake.Hint(finished=(op.id,)))
            return
        if self._away and result.fence == op.fence and result.node is None:
            return
        self.refused += 1
        state = "gone" if result.state is None else result.state.word
        log.warning("settle refused: the claim was lost", job=op.id.hex(), fence=op.fence, state=state, new_fence=result.fence)

    def _look_at(self, due: int) -> None:
        """Look again when a job of ours may have its next attempt, if that is before the next look anyway."""
        seconds = max(due - self._store.clock.now(), 0) / clock.SECOND
        if seconds > self._poll_seconds:
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + seconds
        if self._due is None or not loop.time() < self._due_at <= at:
            if self._due is not None:
                self._due.cancel()
            self._due, self._due_at = loop.call_later(seconds, self.look), at

    # While the store is away

    async def _stay_away(self, error: Exception) -> None:
        if not isinstance(error, errors.CallboardError):
            log.error("an exchange with the store failed", exc_info=error)
        elif not self._away:
            log.warning("the store is away, results are kept", why=str(error), kept=len(self._ended))
        self._away = True
        await asyncio.sleep(self._delays.failed())

    def _is_back(self) -> None:
        if self._away:
            self._away = False
            self._delays.succeeded()
            log.info("the store is back")

    async def _find(self) -> None:
        """Take up the claims that the store made although it could not say so, or not in time.

        Something is written first: after that, what was open until then is made for good, or never will be.
        """
        try:
            await self._store.renew(self._node, ())
            jobs = [job for domain in dict(self._sources) for job in await self._owned(domain)]
        except Exception as error:
            await self._stay_away(error)
            return
        self._unsure = False
        known = {(op.domain, op.id, op.fence) for op in self._ended}
        known |= {(*run.job.key, run.job.fence) for run in self._runs.running.values()}
        known |= {(*key, 1) for key in (self.door.expected if self.door is not None else ())}
        self.begin([job for job in jobs if (*job.key, job.fence) not in known])

    async def _owned(self, domain: str) -> list[model.Job]:
        owned: list[model.Job] = []
        wanted = seam.Filter(domain=domain, states=frozenset({model.State.RUNNING}))
        page = await self._store.find(wanted, FOUND_PER_PAGE)
        while True:
            owned += [job for job in page.jobs if job.node == self._node]
            if page.cursor is None:
                return owned
            page = await self._store.find(wanted, FOUND_PER_PAGE, page.cursor)

    # Resting

    async def _rest(self) -> None:
        """Wait for the bell, or until it is time to look whether the store has jobs of which no hint came through."""
        loop = asyncio.get_running_loop()
        if self._closing and not self._runs.running:
            self._quiet.set()
        self._bell = bell = loop.create_future()
        polls = bool(self._sources) and not self._closing and self._runs.limits.short > 0
        timer = loop.call_at(self._look_due, self.ring) if polls else None
        try:
            await bell
        finally:
            self._bell = None
            if timer is not None:
                timer.cancel()
        if polls and loop.time() >= self._look_due and not self._ended and not self.wants(self._limits):
            await self._poll()

    async def _poll(self) -> None:
        self._looked()
        with contextlib.suppress(errors.StoreError):  # The next exchange will tell, if there is one.
            if await self._store.ready(self._takes(self._limits)):
                self.look()
