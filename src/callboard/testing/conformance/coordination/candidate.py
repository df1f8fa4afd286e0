"""An instance that stands for an office and writes down when it would have accepted a request, and under which epoch."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from typing import Final

import msgspec

from callboard.coordination import engine as seam
from callboard.coordination import presence
from callboard.kit import clock as clocks

LABEL: Final = "billing"
GROUP: Final = "main"
OFFICE: Final = f"{LABEL}.{GROUP}"
SAMPLE_SECONDS: Final = 0.003


class Term(msgspec.Struct):
    """One epoch, and when the first and the last request would have been accepted under it (CLOCK_BOOTTIME, nanoseconds)."""

    epoch: int
    first: int
    last: int


class Candidate:
    """A presence, and one candidature of it."""

    def __init__(self, session: seam.Session, clock: clocks.Clock) -> None:
        self.session = session
        self.presence = presence.Presence(session, clock)
        self.clock = clock
        self.terms: list[Term] = []
        self.told: list[str] = []
        """What it was told, in order: `taken EPOCH`, `left`."""
        self.states = [session.state]
        self.standing: presence.Standing | None = None
        self._sampling: asyncio.Task[None] | None = None

    @property
    def epoch(self) -> int:
        """The epoch under which it would accept a request now, else 0."""
        standing = self.standing
        return standing.epoch if standing is not None and standing.accepts(self.clock.boot()) else 0

    async def start(self, order: int, *, preempt: bool = True) -> None:
        """Declare itself and stand."""
        self.session.follow(self.states.append)
        await self.presence.start()
        await self.presence.declare(f"nodes/{self.presence.incarnation}", b"{}")
        self._sampling = asyncio.create_task(self._sample())
        self.stand(order, preempt=preempt)

    def stand(self, order: int, *, preempt: bool = True) -> None:
        """Stand, for the first time or anew."""

        async def taken(epoch: int) -> None:
            self.told.append(f"taken {epoch}")

        async def left() -> None:
            self.told.append("left")

        body = self.session.name.encode()
        self.standing = self.presence.stand(LABEL, GROUP, order, body, preempt=preempt, taken=taken, left=left)

    async def stop(self) -> None:
        if self._sampling is not None:
            self._sampling.cancel()
            await asyncio.gather(self._sampling, return_exceptions=True)
        await self.presence.stop()

    async def _sample(self) -> None:
        while True:
            epoch, now = self.epoch, self.clock.boot()
            if epoch and self.terms and self.terms[-1].epoch == epoch:
                self.terms[-1].last = now
            elif epoch:
                self.terms.append(Term(epoch, now, now))
            await asyncio.sleep(SAMPLE_SECONDS)


def in_turn(terms: Iterable[Term]) -> None:
    """Raise AssertionError when a request would have been accepted under an epoch after one was under a later epoch.

    For terms of one clock: the processes of one machine share theirs.
    """
    ordered = sorted(terms, key=lambda term: (term.epoch, term.first))
    for before, after in itertools.pairwise(ordered):
        if before.epoch < after.epoch and after.first <= before.last:
            raise AssertionError(f"epoch {before.epoch} was accepted at {before.last}, epoch {after.epoch} from {after.first} on")
