"""A session on the event loop: asks its pulse, and takes note of what that hears of the database and of its own life."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, Final, TypeVar

import structlog
from sqlalchemy import exc

from callboard import errors
from callboard.coordination import engine as seam
from callboard.coordination.engines import watches
from callboard.coordination.engines.sql import ages, desk, pulse
from callboard.databases import database as databases

T = TypeVar("T")
LATE_SHARE: Final = 1 / 3
"""The part of the granted time without an answer after which the session says that it is SUSPENDED."""
LEAST_CONNECT_SECONDS: Final = 3.0
CLOSE_SECONDS: Final = 1.0
log = structlog.get_logger("callboard.coordination")


class SqlSession:
    """One session: a row, a thread that keeps it, and the connection of that."""

    def __init__(self, name: str, database: databases.Database, granted_seconds: float) -> None:
        self.name = name
        self.granted_seconds = granted_seconds
        self._place = database.address.shown
        self._watches = watches.Watches()
        self._pulse = pulse.Pulse(desk.Desk(database, name, granted_seconds), self)
        self._token: bytes | None = None
        """Of the life that has begun."""
        self._next = secrets.token_bytes(16)
        """Of the one that is to begin: the same one when it is tried again, as it may have begun unheard of."""
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def state(self) -> seam.State:
        return self._watches.state

    async def begin(self) -> None:
        """Raises AlreadyRunning, CoordinationUnavailable, DataUnusable."""
        try:
            await self._enter()
        except BaseException:
            await self.close()
            raise
        self._look_at_the_clock()

    async def apply(self, operations: Sequence[seam.Operation]) -> list[int]:
        seam.check(operations)
        token = self._living()
        return await self._ask(lambda desk: desk.apply(token, operations))

    async def entries(self, folder: str) -> list[seam.Entry]:
        self._living()
        return await self._ask(lambda desk: desk.entries(folder))

    async def sessions(self) -> Collection[str]:
        self._living()
        return await self._ask(lambda desk: desk.sessions())

    def watch(self, folder: str, changed: Callable[[], None]) -> Callable[[], None]:
        return self._watches.watch(folder, changed)

    def follow(self, told: Callable[[seam.State], None]) -> Callable[[], None]:
        return self._watches.follow(told)

    async def end(self, name: str) -> None:
        token = self._living()
        await self._ask(lambda desk: desk.end(token, seam.check_session(name)))

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._watches.close()
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        leaving = self._pulse.ask(lambda desk: desk.leave())
        await asyncio.wait([leaving.future], timeout=CLOSE_SECONDS)  # Who cannot be told expires it.
        leaving.given_up = True
        if not leaving.future.cancel():
            leaving.future.exception()  # It does not matter why.
        await self._pulse.stop(CLOSE_SECONDS)

    # What the pulse tells.

    def reached(self, folders: frozenset[str]) -> None:
        if self._token is not None:
            self._turn(seam.State.CONNECTED)
            self._watches.tell(folders)

    def unreached(self) -> None:
        if self._token is not None:
            self._turn(seam.State.SUSPENDED)
            self._pulse.doubt()

    def gone(self, token: bytes) -> None:
        if token == self._token and not self._closed:
            self._token = None
            self._next = secrets.token_bytes(16)
            self._turn(seam.State.LOST)
            self._spawn(self._begin_again())

    def _turn(self, state: seam.State) -> None:
        if state is not self.state and not self._closed:
            say = log.info if state is seam.State.CONNECTED else log.warning
            say("coordination turned", state=state.value, session=self.name, at=self._place)
        self._watches.turn(state)

    def _look_at_the_clock(self) -> None:
        """Take note when no answer has come for too long; look again when that may be so."""
        limit = self.granted_seconds * LATE_SHARE
        late = time.monotonic() - self._pulse.answered_at
        if late >= limit:
            self.unreached()
        again = limit - late if late < limit else limit
        self._timer = asyncio.get_running_loop().call_later(again, self._look_at_the_clock)

    def _living(self) -> bytes:
        if self._closed or self._token is None:
            raise errors.CoordinationUnavailable(f"session {self.name!r} is over")
        return self._token

    async def _begin_again(self) -> None:
        while True:
            try:
                return await self._enter()
            except (errors.CoordinationError, errors.AlreadyRunning, errors.DataUnusable) as error:
                log.warning("no new session in coordination yet", session=self.name, why=error.message)
                await asyncio.sleep(self.granted_seconds / 3)

    async def _enter(self) -> None:
        """Begin a life. One that has the name and does not beat for its granted time is ended. Raises as `begin`."""
        try:
            await self._asked(lambda desk: desk.prepare())
            token, rivals, first = self._next, ages.Ages(), None
            while (rival := await self._asked(lambda desk: desk.begin(token))) is not None:
                if first not in (None, rival):
                    raise errors.AlreadyRunning(f"{self.name!r} has a live session: stop that one, or wait until it expires")
                first = rival
                if rivals.look([rival], time.monotonic()):
                    await self._asked(lambda desk, rival=rival: desk.expire(rival))  # type: ignore[misc]
                    first = None
                else:
                    await asyncio.sleep(pulse.LOOK_SECONDS)
        except errors.StoreError as error:
            if error.retryable:
                raise errors.CoordinationUnavailable(f"coordination cannot be reached: {error.message}") from None
            raise errors.DataUnusable(f"coordination cannot be used: {error.message}") from None
        self._token = token
        self._turn(seam.State.CONNECTED)

    async def _ask(self, do: Callable[[desk.Desk], T]) -> T:
        try:
            return await self._asked(do)
        except errors.StoreError as error:
            raise errors.CoordinationUnavailable(f"coordination cannot be used for now: {error.message}") from None

    async def _asked(self, do: Callable[[desk.Desk], T]) -> T:
        """Ask for so long as the session lives without being heard of. Raises StoreError, CoordinationError, DataUnusable."""
        seconds = max(self.granted_seconds, LEAST_CONNECT_SECONDS if self._token is None else 0)
        asked = self._pulse.ask(do)
        try:
            await asyncio.wait([asked.future], timeout=seconds)
        finally:
            asked.given_up = True
            if not asked.future.done():
                asked.future.cancel()
        if asked.future.cancelled():
            raise errors.CoordinationUnavailable(
                f"{self._place} did not answer within {seconds:g} s: whether it was done is unknown"
            )
        try:
            answer: T = asked.future.result()
        except exc.SQLAlchemyError as error:
            why = " ".join(str(error).split())
            raise errors.CoordinationError(f"{self._place} refused a statement of coordination: {why:.300}") from None
        return answer

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
