"""One instance that stands for one office: acts on what `election` decides, at the pace of what its presence hears."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import msgspec
import structlog

from callboard import errors
from callboard.coordination import board as boards
from callboard.coordination import election
from callboard.coordination import engine as seam
from callboard.kit import backoff, clock

AGAIN_FIRST_SECONDS: Final = 0.5
"""How long one that was deposed, or could not take office, waits before it stands again; doubled each time."""
AGAIN_MOST_SECONDS: Final = 30.0
RETRY_FIRST_SECONDS: Final = 0.01
RETRY_MOST_SECONDS: Final = 0.5
NEVER: Final = 1 << 62
"""A time of CLOCK_BOOTTIME that does not come."""
log = structlog.get_logger("callboard.coordination")


class Host(Protocol):
    """What a standing asks of the presence that it belongs to."""

    session: seam.Session
    clock: clock.Clock
    board: boards.Board
    incarnation: str
    chance: Callable[[], float]

    async def confirmed(self, operations: Sequence[seam.Operation]) -> tuple[list[int], int]:
        """Apply; return the results, and until when (CLOCK_BOOTTIME, nanoseconds) what they guarded may be relied on."""


class Duties(msgspec.Struct, frozen=True):
    """What an instance does when it takes and leaves an office."""

    taken: Callable[[int], Awaitable[None]]
    """Begin to serve under an epoch. Cancelled when the office is lost meanwhile; what it raises gives the office up."""
    left: Callable[[], Awaitable[None]]
    """End what `taken` began, however far that came. Called once after each `taken`; cut off after the granted session time."""


class Standing:
    """A candidature. `epoch` and `accepts` may be asked at any time; they change on the loop only."""

    def __init__(self, host: Host, office: str, order: int, body: bytes, preempt: bool, duties: Duties) -> None:
        self.office = office
        self.epoch = 0
        """The epoch under which it accepts; 0 while it is not active. Past `safe_until` it accepts nothing, either."""
        self.safe_until = 0
        """CLOCK_BOOTTIME, nanoseconds: when its last confirmation was sent, plus two thirds of the granted session time."""
        self._host = host
        self._order = order
        self._body = body
        self._preempt = preempt
        self._duties = duties
        self._held = 0
        """The epoch that it has not left yet, though it may have stopped accepting."""
        self._doubted = False
        self._vacancy = election.Vacancy()
        self._stands_from = 0
        self._taken_at = 0
        self._again = backoff.Backoff(AGAIN_FIRST_SECONDS, AGAIN_MOST_SECONDS, host.chance)
        self._retry = backoff.Backoff(RETRY_FIRST_SECONDS, RETRY_MOST_SECONDS, host.chance)
        self._woken = asyncio.Event()
        self._idle = asyncio.Event()
        self._taking: asyncio.Task[None] | None = None
        self._acting = asyncio.create_task(self._act())

    @property
    def active_path(self) -> str:
        return f"{election.ACTIVE}/{self.office}"

    @property
    def over(self) -> bool:
        """Whether it has been withdrawn, and nothing of it is left."""
        return self._acting.done()

    def accepts(self, now_boot_ns: int) -> bool:
        """Tell whether a request may be accepted, or answered, at a time of CLOCK_BOOTTIME."""
        return self.epoch > 0 and now_boot_ns < self.safe_until

    async def withdraw(self) -> None:
        """Stop accepting, leave the office, give it up; when coordination is out of reach, that goes on behind. Allowed twice."""
        if self.over:
            return
        self._stands_from = NEVER
        self._idle.clear()
        self.doubt(self._held)
        await self._idle.wait()

    def resign(self, why: str) -> None:
        """Stop accepting at once, leave the office and give it up; stand again after a while that grows."""
        if self._held:
            self._stand_later(why)
            self.doubt(self._held)

    def step_back(self, order: int) -> None:
        """Stand with this order from now on, or a higher one if this is not: behind those who have lower ones. An office that is
        held goes to the next of them, after what runs has come to its end; it comes back only when they are gone.

        Raises StateRefused when there is no higher order.
        """
        order = max(order, self._order + 1)
        if order > election.MAX_ORDER:
            raise errors.StateRefused(f"{self.office}: nobody can stand behind order {election.MAX_ORDER}: give a lower one")
        log.info("steps back", office=self.office, order=order)
        self._order = order
        self.wake()

    async def stop(self) -> None:
        """Leave the office if it is held, and do nothing any more. The session's end gives it up."""
        self.epoch = 0
        self._acting.cancel()
        await asyncio.gather(self._acting, return_exceptions=True)
        self._idle.set()
        await self._leave()

    def wake(self) -> None:
        """Look again: something changed."""
        self._woken.set()

    def doubt(self, epoch: int) -> None:
        """Stop accepting under `epoch` at once: it is over, or the session is."""
        if epoch and epoch == self._held:
            self.epoch = 0
            self._doubted = True
        self.wake()

    def lost(self) -> None:
        """The session is over, and with it the office."""
        self.doubt(self._held)

    def returned(self) -> None:
        """Count how long the office is vacant from now: nothing was seen for a while."""
        if self._vacancy.mark <= 0:
            self._vacancy = election.Vacancy()
        self.wake()

    def confirm(self, epoch: int, safe_until: int) -> None:
        """Go on accepting under `epoch`: a round trip has found it unchanged."""
        if epoch == self.epoch:
            self.safe_until = max(self.safe_until, safe_until)

    async def _act(self) -> None:
        try:
            await self._go_on()
        finally:
            self._idle.set()

    async def _go_on(self) -> None:
        until: int | None
        while True:
            try:
                if self._doubted:
                    await self._leave()
                if self._taking is not None and self._taking.done():
                    self._took(self._taking)
                until = await self._step()
                self._retry.succeeded()
            except errors.CoordinationError as error:
                self._host.board.forget()
                if not isinstance(error, errors.CoordinationConflict) and not self._held:
                    self._idle.set()
                until = self._host.clock.boot() + round(self._retry.failed() * 1e9)
            if until == NEVER:
                return
            await self._pause(until)

    async def _step(self) -> int | None:
        """Look, decide, act; return when to look again at the latest."""
        self._woken.clear()
        if self._host.session.state is not seam.State.CONNECTED:
            self._idle.set()
            return None
        seen = await self._host.board.view(self.office)
        now = self._host.clock.boot()
        self._vacancy = election.look(self._vacancy, seen, now)
        if self._doubted:
            return now
        action = election.decide(seen, self._me(), self._vacancy, now)
        if isinstance(action, election.Wait):
            return action.until
        await self._do(action)
        return now

    def _me(self) -> election.Me:
        session = self._host.session
        bid = election.Bid(self._host.incarnation, self._order, session.name, session.granted_seconds)
        return election.Me(self.office, bid, self._body, self._preempt, self._held, self._stands_from)

    async def _do(self, action: election.Action) -> None:
        match action:
            case election.Take():
                await self._take(action.operations)
            case election.Lost():
                await self._leave()
            case election.HandOver():
                await self._leave(gently=True)
                await self._apply(action.operations)
            case election.Apply():
                await self._apply(action.operations)
                if action.deposed:
                    self._stand_later("it was deposed")

    async def _apply(self, operations: Sequence[seam.Operation]) -> None:
        await self._host.session.apply(operations)
        self._host.board.forget()  # Afterwards: another standing may have read while this was on its way.

    async def _take(self, operations: Sequence[seam.Operation]) -> None:
        results, self.safe_until = await self._host.confirmed(operations)
        self._host.board.forget()
        self._held = self.epoch = results[-1]
        self._taken_at = self._host.clock.boot()
        log.info("office taken", office=self.office, epoch=self.epoch)
        self._taking = asyncio.create_task(self._begin(self.epoch))
        self._taking.add_done_callback(lambda _: self.wake())

    async def _begin(self, epoch: int) -> None:
        await self._duties.taken(epoch)

    def _took(self, taking: asyncio.Task[None]) -> None:
        self._taking = None
        # Whoever leaves the office cancels it as well, and does not come here: this was cancelled from inside.
        error = asyncio.CancelledError() if taking.cancelled() else taking.exception()
        if error is not None:
            self.epoch = 0
            self._stand_later(f"it could not begin: {type(error).__name__}: {error}")

    def _stand_later(self, why: str) -> None:
        """Give up what there is, and stand again after a while that grows: another one may be better off."""
        now = self._host.clock.boot()
        if now - self._taken_at > AGAIN_MOST_SECONDS * 1e9:
            self._again.succeeded()  # It went well for long.
        seconds = self._again.failed()
        log.warning("stands again later", office=self.office, why=why, seconds=round(seconds, 3))
        self._stands_from = max(self._stands_from, now + round(seconds * 1e9))

    async def _leave(self, *, gently: bool = False) -> None:
        """Stop accepting, then end what `taken` began; `gently`: what runs may answer, as long as nobody else can be active."""
        if not gently:
            self.epoch = 0
        taking, self._taking = self._taking, None
        if taking is not None:
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)
        if self._held:
            log.info("office left", office=self.office, epoch=self._held)
            try:
                async with asyncio.timeout(self._host.session.granted_seconds):
                    await self._duties.left()
            except Exception as error:
                log.error("office left in disorder", office=self.office, error=f"{type(error).__name__}: {error}")
        self.epoch = 0
        self._held = 0
        self._doubted = False

    async def _pause(self, until: int | None) -> None:
        seconds = None if until is None else max(0.0, (until - self._host.clock.boot()) / 1e9)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
