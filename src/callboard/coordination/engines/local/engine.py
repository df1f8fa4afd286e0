"""The seam over a directory: sessions of this process, and one watch over what all processes write there.

What blocks runs in threads of the engine's own: those of the loop may all be busy with handlers, and an office must not be lost
for that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Sequence
from concurrent import futures
from pathlib import Path
from typing import Final, TypeVar

import structlog

from callboard import errors
from callboard.coordination import engine as seam
from callboard.coordination import sessions
from callboard.coordination.engines import watches
from callboard.coordination.engines.local import book as books
from callboard.coordination.engines.local import lookout

T = TypeVar("T")
THREADS: Final = 4
"""For changes, which wait for the lock; as many again for reads and confirmations, which must not wait with them."""
LOOK_SECONDS: Final = 1.0
"""Between looks while nothing is heard."""
DEAF_SECONDS: Final = 0.05
"""Between looks when the kernel has no watch left for this process."""
FOLLOW_UP_SECONDS: Final = (0.0005, 0.002, 0.008, 0.03, 0.1)
"""When to look again after something was heard: the kernel tells of a death just before it frees the lock."""
HEARD: Final = lookout.CLOSE_WRITE | lookout.DELETE | lookout.CREATE | lookout.MOVED_TO
log = structlog.get_logger("callboard.coordination")


class LocalEngine:
    """On one event loop."""

    name = "local"

    def __init__(self, directory: Path, *, session_seconds: float) -> None:
        self.session_seconds = session_seconds
        self.book = books.Book(directory)
        self.threads = futures.ThreadPoolExecutor(THREADS, "coordination")
        self._readers = futures.ThreadPoolExecutor(THREADS, "coordination-reads")
        self._sessions: list[LocalSession] = []
        self._looking: asyncio.Task[None] | None = None
        self._stirred = asyncio.Event()

    async def session(self, name: str) -> LocalSession:
        made = LocalSession(seam.check_session(name), self)
        await made.begin()
        self._sessions.append(made)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        self._stirred.set()
        return made

    async def close(self) -> None:
        for session in tuple(self._sessions):
            await session.close()
        self.threads.shutdown(wait=False)
        self._readers.shutdown(wait=False)

    async def run(self, do: Callable[[], T], *, changes: bool = False) -> T:
        """Run what blocks; `changes` tells that it may have to wait for the lock."""
        return await asyncio.get_running_loop().run_in_executor(self.threads if changes else self._readers, do)

    async def forget(self, session: LocalSession) -> None:
        """A session is over. The last one ends the watch."""
        if session in self._sessions:
            self._sessions.remove(session)
        looking = self._looking
        if not self._sessions and looking is not None:
            self._looking = None
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _look(self) -> None:
        """Tell the sessions which folders changed since the look before."""
        ear = self._listen()
        seconds = LOOK_SECONDS if ear is not None else DEAF_SECONDS
        before: dict[str, object] = {}
        follow_up = iter(FOLLOW_UP_SECONDS)
        try:
            while True:
                self._stirred.clear()
                before = await self._glance(before)
                if await self._pause(next(follow_up, seconds)):
                    follow_up = iter(FOLLOW_UP_SECONDS)
        finally:
            if ear is not None:
                ear.close()

    async def _glance(self, before: dict[str, object]) -> dict[str, object]:
        begun = {session: session.number for session in self._sessions}
        try:
            sight = await self.run(self.book.look)
        except (errors.DataUnusable, OSError) as error:
            if any(session.state is seam.State.CONNECTED for session in begun):
                log.warning("coordination out of reach", why=str(error))
            for session in begun:
                session.turn(seam.State.SUSPENDED)
            return before
        now = sight.folders()
        changed = {folder for folder in before.keys() | now.keys() if before.get(folder) != now.get(folder)}
        for session in tuple(self._sessions):  # Those that began meanwhile, too: nobody sees these changes a second time.
            session.heard(begun.get(session, 0), sight, changed)
        return now

    async def _pause(self, seconds: float) -> bool:
        """Wait; True as soon as something was heard."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stirred.wait()
        return self._stirred.is_set()

    def _listen(self) -> lookout.Lookout | None:
        try:
            return lookout.Lookout({self.book.directory: lookout.MOVED_TO, self.book.sessions: HEARD}, self._stirred.set)
        except OSError as error:
            log.warning("coordination looks often: raise fs.inotify.max_user_instances", why=str(error))
            return None


class LocalSession:
    """A locked file, and a number in the book."""

    def __init__(self, name: str, engine: LocalEngine) -> None:
        self.name = name
        self.granted_seconds = engine.session_seconds
        self._engine = engine
        self._watches = watches.Watches()
        self._lock: sessions.ProcessSession | None = None
        self.number = 0
        """Its number in the book."""
        self._renewing: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def state(self) -> seam.State:
        return self._watches.state

    async def begin(self) -> None:
        """Raises AlreadyRunning, DataUnusable, CoordinationUnavailable."""
        book = self._engine.book
        beginning = self._engine.threads.submit(book.begin, self.name, self._lock)
        try:
            begun = await asyncio.wrap_future(beginning)
        except asyncio.CancelledError:
            beginning.add_done_callback(_let_go)  # It may begin all the same.
            raise
        except OSError as error:
            why = f"coordination in {book.directory} cannot be used: {error.strerror}: make room, or make it writable"
            raise errors.DataUnusable(why) from None
        self._lock, self.number = begun.lock, begun.number
        self._watches.turn(seam.State.CONNECTED)

    async def apply(self, operations: Sequence[seam.Operation]) -> list[int]:
        seam.check(operations)
        number = self.number
        return await self._ask(lambda: self._engine.book.apply(self.name, number, operations), changes=books.changes(operations))

    async def entries(self, folder: str) -> list[seam.Entry]:
        sight = await self._ask(self._engine.book.look)
        return [sight.entries[path] for path in sorted(sight.entries) if path.startswith(f"{folder}/")]

    async def sessions(self) -> Collection[str]:
        return (await self._ask(self._engine.book.look)).sessions.keys()

    def watch(self, folder: str, changed: Callable[[], None]) -> Callable[[], None]:
        return self._watches.watch(folder, changed)

    def follow(self, told: Callable[[seam.State], None]) -> Callable[[], None]:
        return self._watches.follow(told)

    async def end(self, name: str) -> None:
        await self._ask(lambda: self._engine.book.end(name), changes=True)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._watches.close()
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        if self._lock is not None:
            await self._engine.run(self._lock.close)
        await self._engine.forget(self)

    def heard(self, number: int, sight: books.Sight, changed: Collection[str]) -> None:
        """What the engine saw by a look that began when the session had `number`; 0: it had not begun."""
        if number == self.number and sight.sessions.get(self.name) != number:
            self._lose()
            return
        self.turn(seam.State.CONNECTED)
        self._watches.tell(changed)

    def turn(self, state: seam.State) -> None:
        """Be in a state, unless the session is over: only a new one ends that."""
        if self.state is not seam.State.LOST:
            self._watches.turn(state)

    async def _ask(self, do: Callable[[], T], *, changes: bool = False) -> T:
        if self._closed or self.state is seam.State.LOST:
            raise errors.CoordinationUnavailable(f"session {self.name!r} is over")
        try:
            answer = await self._engine.run(do, changes=changes)
        except books.Gone:
            self._lose()
            raise errors.CoordinationUnavailable(f"session {self.name!r} was ended: read before repeating anything") from None
        except (errors.DataUnusable, OSError) as error:
            self.turn(seam.State.SUSPENDED)
            raise errors.CoordinationUnavailable(f"coordination cannot be used for now: {error}") from None
        except errors.CoordinationUnavailable:
            self.turn(seam.State.SUSPENDED)
            raise
        self.turn(seam.State.CONNECTED)
        return answer

    def _lose(self) -> None:
        if self.state is not seam.State.LOST and not self._closed:
            self._watches.turn(seam.State.LOST)
            self._renewing = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        while True:
            try:
                await self.begin()
                return
            except (errors.CoordinationUnavailable, errors.AlreadyRunning, errors.DataUnusable) as error:
                log.warning("no new session in coordination yet", session=self.name, why=str(error))
                await asyncio.sleep(self.granted_seconds / 3)


def _let_go(beginning: futures.Future[books.Begun]) -> None:
    if not beginning.cancelled() and beginning.exception() is None:
        beginning.result().lock.close()
