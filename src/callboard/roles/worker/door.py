"""The way in for jobs that were not claimed here: a bridge brings them, submitted and claimed in one.

They and the store's jobs share the worker's slots. As long as only one side has work it may have all; where both have, each
is sure of half. What is arithmetic here belongs to one event loop's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

from callboard.jobs import lanes, model
from callboard.roles.worker.run import Run
from callboard.roles.worker.runs import Runs


class Claiming(Protocol):
    """What the door asks of the claims."""

    asked: lanes.Limits
    """Slots that a claim under way may fill."""

    @property
    def turn(self) -> int:
        """0 or 1, changing with each claim: whose turn an odd slot is, together with how many jobs were brought."""

    def wants(self, limits: lanes.Limits) -> bool:
        """Whether the store may have jobs for slots as free as this."""

    def ring(self) -> None:
        """Have the claims look at once whether there is something to do."""

    def begin(self, jobs: list[model.Job]) -> None:
        """Run jobs that are claimed for here, or hand them back."""


class Door:
    """Takes slots for jobs that may come, and begins those that came."""

    def __init__(
        self,
        runs: Runs,
        claims: Claiming,
        node: bytes,
        kinds: Mapping[str, Collection[int]],
        sources: Collection[tuple[str, str]],
    ) -> None:
        """`kinds` (with the payload versions known) and `sources`, pairs of domain and queue, are what the worker runs."""
        self.node = node
        self.slots = runs.slots
        self.freed: Callable[[], None] = _unheard
        """Is called when there may be more slots than before."""
        self.left: Callable[[model.Lane], None] = _unheard
        """Is told the lane of each job that has ended, whoever brought it."""
        self.open = True
        """Closed when the worker drains: nothing gets a slot any more."""
        self._booked = 0
        self._waits = False
        self.expected: dict[tuple[str, bytes], model.Lane] = {}
        """Jobs that have a slot and are not begun."""
        self._runs = runs
        self._claims = claims
        self._kinds = kinds
        self._sources = sources
        self._begun = 0
        self._brought: set[tuple[str, bytes, int]] = set()
        runs.left = self._note_left

    @property
    def limits(self) -> lanes.Limits:
        """How many jobs of each lane may come in now."""
        if not self.open:
            return lanes.Limits(0, 0)
        free = self._runs.limits
        short, long = free.short - self._claims.asked.short, free.long
        if self._claims.wants(free):
            short = min(short, self._half - self._taken)
        return lanes.Limits(max(short, 0), max(min(short, long), 0))

    @property
    def left_to_claims(self) -> lanes.Limits:
        """How many jobs of each lane may be claimed from the store now."""
        short, long = self._runs.limits
        kept = self._booked
        if self._waits:
            kept = max(kept, min(self._half - self._taken, short))
        return lanes.Limits(max(short - kept, 0), max(min(long, short - kept), 0))

    def book(self, booked: int, waits: bool) -> None:
        """Say how many free slots are kept for jobs on their way, and whether more jobs wait outside than were asked for."""
        less = booked < self._booked or (self._waits and not waits)
        self._booked, self._waits = booked, waits
        if less and self._claims.wants(self._runs.limits):
            self._claims.ring()

    def runs(self, job: model.Job) -> bool:
        """Whether the worker runs jobs like this one."""
        return job.version in self._kinds.get(job.kind, ()) and (job.domain, job.queue) in self._sources

    def has(self, job: model.Job) -> bool:
        """Whether this claim of a job is held here already."""
        run = self._runs.running.get(job.key)
        return run is not None and run.job.fence == job.fence

    def hold(self, job: model.Job) -> bool:
        """Take a slot for a job that is about to be stored as claimed; False when there is none."""
        limits = self.limits
        free = limits.short if job.lane is model.Lane.SHORT else limits.long
        if free < 1 or job.key in self.expected:
            return False
        self._runs.hold(job.lane)
        self.expected[job.key] = job.lane
        return True

    def let(self, job: model.Job) -> None:
        """Give a slot back that `hold` took: the store's jobs may have been waiting for it."""
        self._runs.let(self.expected.pop(job.key))
        self._claims.ring()

    def begin(self, jobs: Iterable[model.Job]) -> None:
        """Run jobs that have a slot and are the node's own in the store; once closed, hand them back."""
        begun = list(jobs)
        self._begun += len(begun)
        for job in begun:
            self._runs.let(self.expected.pop(job.key))
            if self.open:
                self._brought.add((*job.key, job.fence))
        self._claims.begin(begun)

    @property
    def _half(self) -> int:
        return (self.slots + (self._claims.turn + self._begun) % 2) // 2

    @property
    def _taken(self) -> int:
        return len(self._brought) + len(self.expected)

    def _note_left(self, run: Run) -> None:
        self._brought.discard((*run.job.key, run.job.fence))
        self.left(run.job.lane)
        self.freed()


def _unheard(*_: object) -> None:
    """Nobody listens yet."""
