"""What one process says of itself in coordination, kept true: its entries, and the offices it stands for.

Everything runs on the process's event loop, the confirmations too: a loop that hangs must not confirm anything. Whether an
office may be exercised is a matter of CLOCK_BOOTTIME (`Standing.accepts`), so that a process that was frozen, or cut off,
stops without being told. Who may take what is `election`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from callboard import errors
from callboard.coordination import board as boards
from callboard.coordination import election
from callboard.coordination import engine as seam
from callboard.coordination import standing as standings
from callboard.kit import backoff, clock, grammar, lifecycle

CONFIRM_SHARE: Final = 1 / 6
"""The part of the granted session time between two confirmations: three may be lost before an office must not be exercised."""
CALM_SHARE: Final = 1.0
"""The same where no office is stood for: only an entry that somebody else removed is found out by it."""
RETRY_FIRST_SECONDS: Final = 0.05
RETRY_MOST_SECONDS: Final = 1.0
log = structlog.get_logger("callboard.coordination")
Standing = standings.Standing


class Presence(lifecycle.Lifecycle):
    """One for each session. The session is begun before and closed after it; on the session's loop."""

    def __init__(
        self, session: seam.Session, clock: clock.Clock, *, incarnation: str = "", chance: Callable[[], float] = random.random
    ) -> None:
        """`incarnation` is what its bids carry; by default the session's name without `node-`."""
        super().__init__()
        self.session = session
        self.clock = clock
        self.incarnation = incarnation or session.name.removeprefix("node-")
        self.chance = chance
        self.board = boards.Board(session, self._wake)
        self.safe_until = 0
        """CLOCK_BOOTTIME, nanoseconds: when the last confirmation was sent, plus two thirds of the granted session time. An
        office has one of its own."""
        self._standings: list[Standing] = []
        self._wanted: dict[str, bytes | None] = {}
        self._there: dict[str, tuple[int, bytes]] = {}
        self._declaring = asyncio.Lock()
        self._woken = asyncio.Event()
        self._stood = asyncio.Event()
        self._ends: list[Callable[[], None]] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def declare(self, path: str, body: bytes) -> None:
        """Keep an entry at a path, with this content, as long as this lives. Returns when it is there, or when coordination is
        out of reach: it is made then when it can be. Raises InvalidName, TooLarge."""
        seam.check([seam.Create(path, body)])
        self._wanted[path] = body
        await self._try()

    async def withdraw(self, path: str) -> None:
        """Keep it no more; as `declare`."""
        if path in self._wanted:
            self._wanted[path] = None
            await self._try()

    def stand(
        self,
        label: str,
        group: str,
        order: int,
        body: bytes,
        *,
        preempt: bool,
        taken: Callable[[int], Awaitable[None]],
        left: Callable[[], Awaitable[None]],
    ) -> Standing:
        """Stand for the office of a label in a group, at most once each. `body` is what the `active` entry says.

        `taken(epoch)` is awaited when the office is taken, while it is exercised already as far as `accepts` tells: serve when
        it has come to its end. It is cancelled when the office is lost meanwhile; if it raises, the office is given up and the
        instance stands again later. `left` is awaited once after each `taken`, however far that came, before the office is
        given up: from its beginning take nothing new; what runs may still answer where `accepts` says so. With `preempt`, a
        holder gives way to a candidate of lower order.
        Raises InvalidName, InvalidInput, TooLarge.
        """
        if not 0 <= order <= election.MAX_ORDER:
            raise errors.InvalidInput(f"order {order} is out of range: use 0 to {election.MAX_ORDER}")
        grammar.check_label(self.incarnation, "incarnation")
        office = election.office(label, group)
        seam.check([seam.Create(f"{election.ACTIVE}/{office}", body)])
        self._standings = [each for each in self._standings if not each.over]
        if any(each.office == office for each in self._standings):
            raise errors.InvalidInput(f"this process stands for {office} already: withdraw that first")
        standing = Standing(self, office, order, body, preempt, standings.Duties(taken, left))
        self._standings.append(standing)
        self._stood.set()
        return standing

    def standing(self, label: str, group: str) -> Standing | None:
        """Return how this stands for an office; None when it does not. Raises InvalidName."""
        office = election.office(label, group)
        return next((each for each in self._standings if each.office == office and not each.over), None)

    async def confirmed(self, operations: Sequence[seam.Operation]) -> tuple[list[int], int]:
        """Apply; return the results, and until when (CLOCK_BOOTTIME, nanoseconds) what they guarded may be relied on."""
        granted = self.session.granted_seconds
        sent = self.clock.boot()
        results = await self.session.apply(operations)
        granted = min(granted, self.session.granted_seconds)
        return results, sent + round(granted * election.SAFE_SHARE * 1e9)

    async def confirm(self) -> bool:
        """Make one round trip. It tells that all that is held is unchanged, or one thing that is not, whose end has begun then
        (False: ask again for the others). Raises CoordinationUnavailable."""
        held = [(each, each.epoch) for each in self._standings if each.epoch]
        checks = [seam.Check(each.active_path, epoch) for each, epoch in held]
        checks += [seam.Check(path, number) for path, (number, _) in self._there.items()]
        if not checks:
            return True
        try:
            _, safe_until = await self.confirmed(checks)
        except errors.CoordinationConflict as error:
            self._gone(error.data["path"], held)
            return False
        self.safe_until = max(self.safe_until, safe_until)
        for standing, epoch in held:
            standing.confirm(epoch, safe_until)
        return True

    async def _start(self) -> None:
        self._ends.append(self.session.follow(self._turned))
        self._tasks = [asyncio.create_task(self._keep_confirmed()), asyncio.create_task(self._keep_true())]

    async def _stop(self) -> None:
        for end in self._ends:
            end()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(standing.stop() for standing in self._standings))
        self.board.close()

    def _gone(self, path: str, held: Sequence[tuple[Standing, int]]) -> None:
        """An entry is not what it was: stop there at once, and confirm the others without delay."""
        self._there.pop(path, None)
        self.board.forget()
        for standing, epoch in held:
            if standing.active_path == path:
                standing.doubt(epoch)
        self._woken.set()

    def _turned(self, state: seam.State) -> None:
        log.info("coordination", session=self.session.name, state=state.value)
        if state is seam.State.LOST:
            self._there.clear()
            for standing in self._standings:
                standing.lost()
        elif state is seam.State.CONNECTED:
            self.board.forget()
            for standing in self._standings:
                standing.returned()
            self._woken.set()

    def _wake(self) -> None:
        for standing in self._standings:
            standing.wake()

    async def _keep_confirmed(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            with contextlib.suppress(errors.CoordinationError):
                while not await self.confirm():
                    began = loop.time()
            share = CONFIRM_SHARE if self._standings else CALM_SHARE
            with contextlib.suppress(TimeoutError):  # From when it was sent: after an answer that took long, the next one is due.
                async with asyncio.timeout_at(began + self.session.granted_seconds * share):
                    await self._stood.wait()
            self._stood.clear()

    async def _keep_true(self) -> None:
        retry = backoff.Backoff(RETRY_FIRST_SECONDS, RETRY_MOST_SECONDS, self.chance)
        while True:
            await self._woken.wait()
            self._woken.clear()
            if await self._try():
                retry.succeeded()
            else:
                await asyncio.sleep(retry.failed())

    async def _try(self) -> bool:
        """Make entries what they should be; False, and word to the keeper, when that has to be repeated."""
        try:
            async with self._declaring:
                for path, body in tuple(self._wanted.items()):
                    await (self._clear(path) if body is None else self._make(path, body))
        except errors.CoordinationError:
            self._woken.set()
            return False
        return True

    async def _make(self, path: str, body: bytes) -> None:
        number, said = self._there.get(path, (0, b""))
        if number and said == body:
            return
        try:
            change = seam.Replace(path, body, number) if number else seam.Create(path, body)
            (number,) = await self.session.apply([change])
        except errors.CoordinationConflict:
            number = await self._make_over(path, body)
        self._there[path] = number, body

    async def _make_over(self, path: str, body: bytes) -> int:
        """Make it whatever is there: one's own, of which no word came back, or one that somebody left."""
        self._there.pop(path, None)
        found = await self._find(path)
        changes: list[seam.Operation] = [seam.Create(path, body)]
        if found is not None and found.session == self.session.name:
            changes = [seam.Replace(path, body, found.number)]
        elif found is not None:
            log.warning("entry of another session replaced", path=path, session=found.session)
            changes.insert(0, seam.Remove(path, found.number))
        return (await self.session.apply(changes))[-1]

    async def _clear(self, path: str) -> None:
        found = await self._find(path)
        if found is not None and found.session == self.session.name:
            await self.session.apply([seam.Remove(path, found.number)])
        self._there.pop(path, None)
        if self._wanted.get(path, b"") is None:
            del self._wanted[path]

    async def _find(self, path: str) -> seam.Entry | None:
        entries = await self.session.entries(path.partition("/")[0])
        return next((each for each in entries if each.path == path), None)
