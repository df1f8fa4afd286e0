"""Coordination inside one process: a `Site` that holds entries and sessions, and clients of it over links that can be cut.

For tests and simulations. No thread and no clock but the running loop's, so that it works on virtual time as well. It behaves
as a server over a network does: sessions beat, the site expires the silent ones, a client that is cut off learns of its loss
only when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Final, Protocol, TypeVar

from callboard import errors
from callboard.coordination import engine as seam
from callboard.coordination.engines import ledger, watches

T = TypeVar("T")
BEATS: Final = 3
"""Heartbeats in the granted time: two may be lost."""
TURNS: Final = 8
"""Turns of the loop between the end of a session's time and its expiry: after a standstill of the process, the heartbeats that
are due come in these."""


class Link(Protocol):
    """The way between a client and the site."""

    async def trip(self) -> None:
        """Carry one message one way: a request makes two trips. Raises CoordinationUnavailable when it does not arrive."""


class Direct:
    """A link without faults: one turn of the loop."""

    async def trip(self) -> None:
        await asyncio.sleep(0)


class Gone(Exception):
    """Raised inside: the session is over."""


class Life:
    """One session as the site knows it."""

    def __init__(self, name: str, granted_seconds: float, told: Callable[[Collection[str]], None]) -> None:
        self.name = name
        self.granted_seconds = granted_seconds
        self.told = told
        self.deadline = 0.0
        self.timer: asyncio.Handle | None = None


class Site:
    """What a server of coordination would hold. On one event loop; methods are what arrives there, each a moment."""

    def __init__(self) -> None:
        self.entries: dict[str, seam.Entry] = {}
        self.number = 0
        self._lives: dict[str, Life] = {}
        self._serving = True

    @property
    def names(self) -> set[str]:
        return set(self._lives)

    def stop(self) -> None:
        """Serve nobody, as a site without quorum; nothing expires meanwhile."""
        self._serving = False

    def resume(self) -> None:
        """Serve again. Every session is given its whole time anew."""
        self._serving = True
        for life in self._lives.values():
            self._heard(life)

    def begin(self, name: str, granted_seconds: float, told: Callable[[Collection[str]], None]) -> Life:
        """Begin a session; `told` hears of folders that change. Who asks again, having heard no answer, begins it anew.

        Raises AlreadyRunning, CoordinationUnavailable.
        """
        self._must_serve()
        if name in self._lives and self._lives[name].told == told:
            self.end(name)
        if name in self._lives:
            raise errors.AlreadyRunning(f"{name!r} has a live session: stop that one, or wait until it expires")
        life = self._lives[name] = Life(name, granted_seconds, told)
        self._heard(life)
        self._tell({seam.SESSIONS})
        return life

    def touch(self, life: Life) -> None:
        """Hear of a session. Raises Gone, CoordinationUnavailable."""
        self._must_serve()
        if self._lives.get(life.name) is not life:
            raise Gone
        self._heard(life)

    def apply(self, life: Life, operations: Sequence[seam.Operation]) -> list[int]:
        self.touch(life)
        done = ledger.apply(self.entries, operations, life.name, self.number)
        self.number = done.number
        self._store(done.changed)
        return done.results

    def end(self, name: str) -> None:
        """End a session: its entries are gone, all at once."""
        life = self._lives.pop(name, None)
        if life is None:
            return
        if life.timer is not None:
            life.timer.cancel()
        self._store({path: None for path, entry in self.entries.items() if entry.session == name})
        self._tell({seam.SESSIONS})

    def _must_serve(self) -> None:
        if not self._serving:
            raise errors.CoordinationUnavailable("coordination does not serve: it has no quorum")

    def _store(self, changed: dict[str, seam.Entry | None]) -> None:
        for path, entry in changed.items():
            if entry is None:
                self.entries.pop(path, None)
            else:
                self.entries[path] = entry
        self._tell({path.partition("/")[0] for path in changed})

    def _tell(self, folders: Collection[str]) -> None:
        for life in tuple(self._lives.values()) if folders else ():
            life.told(folders)

    def _heard(self, life: Life) -> None:
        """Count its time from now; a timer that is under way looks at the deadline when it rings."""
        loop = asyncio.get_running_loop()
        life.deadline = loop.time() + life.granted_seconds
        if life.timer is None:
            life.timer = loop.call_at(life.deadline, self._ring, life)

    def _ring(self, life: Life) -> None:
        loop = asyncio.get_running_loop()
        if self._overdue(life):
            life.timer = loop.call_soon(self._expire, life, TURNS)
        else:
            again = life.deadline if self._serving else loop.time() + life.granted_seconds
            life.timer = loop.call_at(again, self._ring, life)

    def _expire(self, life: Life, turns: int) -> None:
        """End a session that is not heard of in so many turns of the loop."""
        if not self._overdue(life):
            self._ring(life)
        elif turns:
            life.timer = asyncio.get_running_loop().call_soon(self._expire, life, turns - 1)
        else:
            life.timer = None
            self.end(life.name)

    def _overdue(self, life: Life) -> bool:
        return self._serving and asyncio.get_running_loop().time() >= life.deadline


class MemoryEngine:
    """A client of a site. `link` is the way of all its sessions."""

    name = "memory"

    def __init__(self, site: Site, *, link: Link | None = None, session_seconds: float = 3.0) -> None:
        self._site = site
        self._link = link or Direct()
        self._session_seconds = session_seconds

    async def session(self, name: str) -> MemorySession:
        made = MemorySession(seam.check_session(name), self._site, self._link, self._session_seconds)
        await made.begin()
        return made

    async def close(self) -> None:
        """Sessions hold all there is."""


class MemorySession:
    """One session. A task beats for it, and begins a new one when the site says that it is over."""

    def __init__(self, name: str, site: Site, link: Link, granted_seconds: float) -> None:
        self.name = name
        self.granted_seconds = granted_seconds
        self._site = site
        self._link = link
        self._watches = watches.Watches()
        self._life: Life | None = None
        self._woken = asyncio.Event()
        self._changed: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def state(self) -> seam.State:
        return self._watches.state

    async def begin(self) -> None:
        """Raises AlreadyRunning, CoordinationUnavailable."""
        await self._renew()
        self._spawn(self._beat())

    async def apply(self, operations: Sequence[seam.Operation]) -> list[int]:
        seam.check(operations)
        return await self._ask(lambda life: self._site.apply(life, operations))

    async def entries(self, folder: str) -> list[seam.Entry]:
        def read(life: Life) -> list[seam.Entry]:
            self._site.touch(life)
            return sorted((each for path, each in self._site.entries.items() if path.startswith(f"{folder}/")), key=_path)

        return await self._ask(read)

    async def sessions(self) -> Collection[str]:
        def read(life: Life) -> set[str]:
            self._site.touch(life)
            return self._site.names

        return await self._ask(read)

    def watch(self, folder: str, changed: Callable[[], None]) -> Callable[[], None]:
        return self._watches.watch(folder, changed)

    def follow(self, told: Callable[[seam.State], None]) -> Callable[[], None]:
        return self._watches.follow(told)

    async def end(self, name: str) -> None:
        def end(life: Life) -> None:
            self._site.touch(life)
            self._site.end(name)

        await self._ask(end)

    async def close(self) -> None:
        """The site is told if it can be; else it expires the session."""
        self._watches.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        life, self._life = self._life, None
        if life is not None:
            with contextlib.suppress(errors.CoordinationUnavailable):
                await self._carried(lambda: self._leave(life))

    def _leave(self, life: Life) -> None:
        try:
            self._site.touch(life)
        except Gone:
            return
        self._site.end(life.name)

    async def _ask(self, do: Callable[[Life], T]) -> T:
        life = self._life
        if life is None:
            raise errors.CoordinationUnavailable(f"session {self.name!r} is over: a new one has not begun")
        try:
            answer = await self._carried(lambda: do(life))
        except errors.CoordinationUnavailable:
            self._turned(life, seam.State.SUSPENDED)
            raise
        except Gone:
            self._turned(life, seam.State.LOST)
            raise errors.CoordinationUnavailable(f"session {self.name!r} was lost: read before repeating anything") from None
        self._turned(life, seam.State.CONNECTED)
        return answer

    async def _carried(self, do: Callable[[], T]) -> T:
        """Do something at the site: a trip there and one back, the way of refusals too."""
        seconds = self.granted_seconds / BEATS
        try:
            async with asyncio.timeout(seconds):
                await self._link.trip()
                try:
                    return do()
                finally:
                    await self._link.trip()
        except TimeoutError:
            raise errors.CoordinationUnavailable(f"coordination did not answer within {seconds:g} s") from None

    def _turned(self, life: Life, state: seam.State) -> None:
        """Take note of what an answer says of the session's state, unless it is about one that is past."""
        if life is self._life and state is not self.state:
            if state is seam.State.LOST:
                self._life = None
            self._watches.turn(state)
            self._woken.set()

    async def _renew(self) -> None:
        self._life = await self._carried(lambda: self._site.begin(self.name, self.granted_seconds, self._told))
        self._watches.turn(seam.State.CONNECTED)

    async def _beat(self) -> None:
        while True:
            calm = self.state is seam.State.CONNECTED
            await self._pause(self.granted_seconds / (BEATS if calm else 4 * BEATS))
            try:
                if self._life is None:
                    await self._renew()
                else:
                    await self._ask(self._site.touch)
            except (errors.CoordinationUnavailable, errors.AlreadyRunning):
                self._woken.clear()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            pass
        self._woken.clear()

    def _told(self, folders: Collection[str]) -> None:
        idle, wanted = not self._changed, self._watches.wanted(folders)
        self._changed |= wanted
        if idle and wanted:
            self._spawn(self._deliver())

    async def _deliver(self) -> None:
        """Carry word of changes here. Word that is lost is made up for by the return to CONNECTED."""
        life = self._life
        try:
            await self._link.trip()
        except errors.CoordinationUnavailable:
            if life is not None:
                self._turned(life, seam.State.SUSPENDED)
        finally:
            changed, self._changed = self._changed, set()
        self._watches.tell(changed)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _path(entry: seam.Entry) -> str:
    return entry.path


_named: weakref.WeakValueDictionary[str, Site] = weakref.WeakValueDictionary()


def open(url: str, *, session_seconds: float = 3.0) -> MemoryEngine:
    """`memory:` is a new site; `memory:NAME` the one of this name in this process, while anybody has it open."""
    name = url.partition(":")[2]
    site = _named.setdefault(name, Site()) if name else Site()
    return MemoryEngine(site, session_seconds=session_seconds)
