"""What runs here now: begins handlers in their places, times them out, passes on who wants them to end, counts slots.

On one event loop's thread. What ends is handed to `ended` as an operation for the store; nothing here waits for the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

import structlog

from callboard.app import handler
from callboard.jobs import engine as seam
from callboard.jobs import lanes, model
from callboard.kit import beat as beats
from callboard.kit import clock as clocks
from callboard.roles.worker import endings
from callboard.roles.worker.run import Place, Run, Why

log = structlog.get_logger()

Claim = tuple[str, bytes, int, model.Progress | None]


class Runs:
    """Keeps the runs of one worker. A `run.Keeper`."""

    def __init__(
        self,
        handlers: Mapping[str, handler.Handler],
        slots: int,
        floor: int,
        clock: clocks.Clock,
        beat: beats.Beat | None,
        abandon_seconds: float,
    ) -> None:
        self.slots = slots
        self.places: Mapping[str, Place] = {}
        """Where handlers run, by `Handler.runs_in`; set before the first `begin`."""
        self.ended: Callable[[seam.Settle | seam.Release, model.Job], None] = _unheard
        """Is given how each claim ends, and of which job."""
        self.left: Callable[[Run], None] = _unheard
        """Is told of each handler that has ended: its slot is free."""
        self.freed: Callable[[], None] = _unheard
        """Is called when a slot came free after its claim had ended."""
        self.running: dict[tuple[str, bytes], Run] = {}
        """Runs whose claims are held; their slots are taken, and those of `_abandoned` too."""
        self.abandoned = 0
        """Slots taken by handlers that go on although their claim has ended."""
        self._handlers = handlers
        self._floor = floor
        self._clock = clock
        self._beat = beat
        self._abandon_seconds = abandon_seconds
        self._held = [0] * (max(model.Lane) + 1)

    @property
    def limits(self) -> lanes.Limits:
        """What may be claimed now."""
        return lanes.limits(self.slots, self._floor, self._held[model.Lane.SHORT], self._held[model.Lane.LONG])

    @property
    def wants_restart(self) -> bool:
        """Whether half of the slots or more are taken by handlers that nobody can end: only a new process frees them."""
        return self.abandoned > 0 and self.abandoned * 2 >= self.slots

    def hold(self, lane: model.Lane) -> None:
        """Take a free slot for a job that may come."""
        self._held[lane] += 1

    def let(self, lane: model.Lane) -> None:
        """Free a slot that was taken by `hold`."""
        self._held[lane] -= 1

    def begin(self, jobs: Iterable[model.Job]) -> None:
        """Run the handlers of claimed jobs."""
        boot = self._clock.boot()
        begun = []
        for job in jobs:
            if (former := self.running.get(job.key)) is not None:
                self._supersede(former)
            deadline = 0 if job.timeout is None else boot + job.timeout * 1000
            run = self.running[job.key] = Run(job, self._handlers[job.kind], deadline)
            self._held[job.lane] += 1
            begun.append(run)
        self.tell()
        for run in begun:
            self.places[run.handler.runs_in].begin(run)

    def tell(self) -> None:
        """Tell the node's beat what runs and until when."""
        if self._beat is not None:
            deadlines = [run.deadline for run in self.running.values()]
            self._beat.busy(len(deadlines), max(deadlines) if deadlines and all(deadlines) else 0)

    def claims(self) -> list[Claim]:
        """Return what a renewal names: all claims held, with progress that was not told yet; without those whose jobs may be
        locked by their handlers' own transactions, and need no news.
        """
        return [
            (run.job.domain, run.job.id, run.job.fence, run.progress if run.progress is not run.sent_progress else None)
            for run in self.running.values()
            if not run.joined
        ]

    def told(self, claims: Iterable[Claim]) -> None:
        """Note that a renewal brought these claims' progress to the store."""
        for domain, id, _, progress in claims:
            if progress is not None and (run := self.running.get((domain, id))) is not None:
                run.sent_progress = progress

    def stop(self, domain: str, id: bytes, fence: int | None, why: Why) -> None:
        """Make a handler end, if it runs here; `fence` None stands for whichever claim of the job is held."""
        run = self.running.get((domain, id))
        if run is not None and fence in (None, run.job.fence):
            self._stop(run, why)

    def stop_all(self, why: Why) -> None:
        """Make all handlers end."""
        for run in tuple(self.running.values()):
            self._stop(run, why)

    def abandon_all(self) -> None:
        """Let go of all handlers that have not ended although they were told to."""
        for run in tuple(self.running.values()):
            if run.joined:
                self._let_go(run)  # The job may be locked: whoever expires this node's claims ends this one.
            else:
                self._abandon(run)

    def _stop(self, run: Run, why: Why) -> None:
        if why <= run.why or (run.joined and why in (Why.WISH, Why.LOST)):
            return  # After `complete_in` a wish is too late, and a claim is lost by the very commit.
        run.why = why
        run.cancelled = True
        if why is not Why.WISH:
            _disarm(run)
        if why is Why.LOST:
            log.warning("claim lost", job=run.job.id.hex(), kind=run.job.kind, fence=run.job.fence)
            self._let_go(run)
        elif why is Why.TIMEOUT:
            run.timer = asyncio.get_running_loop().call_later(self._abandon_seconds, self._abandon, run)
        self.places[run.handler.runs_in].end(run)

    def _abandon(self, run: Run) -> None:
        """End the claim of a handler that does not end: its slot stays taken. Not while it may have the job locked."""
        if run.let_go:
            return
        why = run.why.name.lower()
        log.warning("handler goes on after it was told to end", job=run.job.id.hex(), kind=run.job.kind, why=why)
        if not run.joined:
            self._let_go(run)
            self.ended(self._stopped_op(run), run.job)

    def _supersede(self, run: Run) -> None:
        """The job was claimed again, for here: its former claim is over, whatever became of it."""
        if run.joined:
            self._let_go(run)
        else:
            self._stop(run, Why.LOST)

    def _let_go(self, run: Run) -> None:
        if not run.let_go:
            run.let_go = True
            del self.running[run.job.domain, run.job.id]
            if not run.free:
                self.abandoned += 1

    # What the places report

    def goes_on(self, run: Run) -> None:
        timeout = run.job.timeout
        if timeout is not None and run.timer is None and run.why < Why.DRAIN:
            run.deadline = self._clock.boot() + timeout * 1000
            run.timer = asyncio.get_running_loop().call_later(timeout / clocks.SECOND, self._stop, run, Why.TIMEOUT)

    def completed(self, run: Run, result: bytes | None) -> None:
        now = self._clock.now()
        if run.joined:  # Refused if the handler's transaction was committed.
            self._free(run, endings.failed(run.job, endings.NOT_COMMITTED, now))
        else:
            self._free(run, endings.completed(run.job, result, now))

    def failed(self, run: Run, failure: endings.Failure) -> None:
        if run.why and failure.code == endings.STOPPED:
            self.stopped(run)
        elif run.why is Why.TIMEOUT and failure.code == model.Reason.FAILED:
            self._free(run, endings.timed_out(run.job, failure, self._clock.now()))
        elif run.why is Why.DRAIN and failure.code == model.Reason.FAILED:
            self._free(run, endings.released(run.job, self._clock.now()))
        else:
            self._free(run, endings.failed(run.job, failure, self._clock.now()))

    def stopped(self, run: Run) -> None:
        self._free(run, self._stopped_op(run))

    def _stopped_op(self, run: Run) -> seam.Settle | seam.Release:
        now = self._clock.now()
        if run.why is Why.TIMEOUT:
            return endings.timed_out(run.job, None, now)
        if run.why is Why.WISH:
            return endings.wished(run.job, now)
        return endings.released(run.job, now)

    def _free(self, run: Run, op: seam.Settle | seam.Release) -> None:
        """The handler has ended: its slot is free, and its claim ends unless it has."""
        run.free = True
        self._held[run.job.lane] -= 1
        self.left(run)
        if run.timer is not None:
            _disarm(run)
        if run.let_go:
            self.abandoned -= 1
            self.freed()
        else:
            run.let_go = True
            del self.running[run.job.domain, run.job.id]
            self.ended(op, run.job)


def _disarm(run: Run) -> None:
    if run.timer is not None:
        run.timer.cancel()
        run.timer = None


def _unheard(*_: object) -> None:
    """Nobody listens yet."""
