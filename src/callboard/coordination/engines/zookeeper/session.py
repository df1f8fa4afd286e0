"""A session of ZooKeeper's behind the seam: applies, reads, watches, and what becomes of it when the connection breaks.

A request whose outcome is unknown is sent again, within the granted time: its seals tell whether it was applied before.
Every life of the session (after LOST a new one begins) has a token, whose seal guards all that is sent in it: nothing of
a life that has ended, or that another session has ended, is applied later.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import secrets
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from typing import Any, Final, TypeVar

import structlog

from callboard import errors
from callboard.coordination import engine as seam
from callboard.coordination.engines import ledger, watches
from callboard.coordination.engines.zookeeper import driver, ending, folders, layout, plan, reading
from callboard.ensembles import address, requests

T = TypeVar("T")
_PAUSE_SECONDS: Final = 0.02
_AGAIN_SECONDS: Final = 1.0
"""Between tries to begin a new life while somebody else has the name."""
_LEAST_CONNECT_SECONDS: Final = 3.0
_LIVES: Final = 100
"""Lives whose tokens are remembered."""
_PURE = (seam.Check, seam.Absent)
_log = structlog.get_logger()


class ZooKeeperSession:
    """One session: a connection of its own, kept up by the library's threads."""

    def __init__(self, name: str, of: address.Address, session_seconds: float) -> None:
        self.name = name
        self._where = where = layout.Layout(of.root)
        self._hosts = of.places
        self._driver = driver.Driver(of, session_seconds, self._linked)
        self._reader = reading.Reader(self._driver, where)
        self._watches = watches.Watches()
        self._folders = folders.Folders(
            self._driver, where.folder, self._reader.ensure, lambda folder: self._watches.tell([folder])
        )
        self._holder: plan.Holder | None = None
        self._link = asyncio.Event()
        """The connection is up."""
        self._reached = asyncio.Event()
        """The connection is up and a life has begun."""
        self._lost = 0
        self._lives: collections.deque[str] = collections.deque(maxlen=_LIVES)
        """Tokens of the latest lives that this has begun, or tried to."""
        self._counter = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def granted_seconds(self) -> float:
        return self._driver.granted_seconds

    @property
    def state(self) -> seam.State:
        return self._watches.state

    async def begin(self) -> None:
        """Connect and begin the first life. Raises AlreadyRunning, CoordinationUnavailable, CoordinationError."""
        self._driver.start()
        try:
            await self._patiently(self._begin_life(), max(self.granted_seconds, _LEAST_CONNECT_SECONDS))
        except BaseException:
            await self.close()
            raise

    async def apply(self, operations: Sequence[seam.Operation]) -> list[int]:
        seam.check(operations)
        return await self._patiently(self._apply(operations)) if operations else []

    async def entries(self, folder: str) -> list[seam.Entry]:
        return await self._read(lambda: self._reader.entries(folder)) if folder != seam.SESSIONS else []

    async def sessions(self) -> Collection[str]:
        return await self._read(lambda: self._reader.names(self._where.sessions))

    def watch(self, folder: str, changed: Callable[[], None]) -> Callable[[], None]:
        ends = self._watches.watch(folder, changed)
        self._folders.want(folder)
        return ends

    def follow(self, told: Callable[[seam.State], None]) -> Callable[[], None]:
        return self._watches.follow(told)

    async def end(self, name: str) -> None:
        await self._read(lambda: ending.end(self._driver, self._reader, self._where, seam.check_session(name)))

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._reached.set()  # Whoever waits for it is told.
        self._watches.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._folders.close()
        await self._driver.stop()

    async def _apply(self, operations: Sequence[seam.Operation]) -> list[int]:
        await self._arrived()
        holder = self._holder
        if holder is None:
            raise self._over()
        created = plan.created(operations, holder, lambda: f"{holder.token}.{next(self._counter)}")
        repeated, answered = False, True
        while True:
            try:
                known = await self._reader.known(operations)
                made = plan.make(self._where, operations, holder, created, known)
                request = self._driver.multi(made.steps)
                _check_size(request)
                answered = False
                results: list[requests.Result] = await self._driver.ask(request)
                answered = True
                failure = made.failure(results)
                if failure is None:
                    return self._applied(operations, created, made.zxid(results))
                if failure == (plan.SEAL, requests.NODE_EXISTS):
                    return self._applied(operations, created, await self._committed(made))
                await self._mended(operations, holder, failure, repeated)
            except driver.Interrupted:
                repeated = repeated or not answered
                await self._back(holder)

    async def _mended(
        self, operations: Sequence[seam.Operation], holder: plan.Holder, failure: tuple[int, int], repeated: bool
    ) -> None:
        """Mend what made a request fail, so that it may be made anew, or raise what it means."""
        owner, code = failure
        if owner == plan.SESSION:
            self._end_life(holder)
            raise self._over()
        operation = None if owner == plan.SEAL else operations[owner]
        if code == requests.NO_NODE and (operation is None or isinstance(operation, seam.Create | seam.Absent)):
            await self._reader.ensure(operation.path.partition("/")[0] if operation else seam.SESSIONS)
        elif operation is not None and code in (requests.NODE_EXISTS, requests.NO_NODE):
            if repeated and not all(isinstance(each, _PURE) for each in operations):
                raise errors.CoordinationUnavailable("the connection broke: whether it was applied is unknown, read again")
            why = "is there already" if code == requests.NODE_EXISTS else "is gone, is another one or has other content"
            raise ledger.conflict(operation.path, owner, why)
        elif code != requests.BAD_VERSION:  # Otherwise its content has changed since it was read.
            raise _refused(code)

    async def _committed(self, made: plan.Plan) -> int:
        """Return the transaction in which a request was applied that was sent before."""
        try:
            _, facts = await self._driver.ask(requests.content(self._where.seal(made.witness or "")))
        except driver.Refused:
            raise errors.CoordinationUnavailable("it was applied, and undone by somebody since: read again") from None
        number: int = facts.czxid
        return number

    def _applied(self, operations: Sequence[seam.Operation], created: dict[int, layout.Header], zxid: int) -> list[int]:
        for index, operation in enumerate(operations):
            if isinstance(operation, seam.Create | seam.Remove):
                self._reader.note(operation.path, zxid, created.get(index))
        return plan.numbers(operations, zxid)

    async def _read(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask, and ask again when the connection breaks; what is asked may be asked twice."""

        async def asking() -> T:
            while True:
                await self._arrived()
                try:
                    return await ask()
                except driver.Interrupted:
                    await asyncio.sleep(_PAUSE_SECONDS)

        return await self._patiently(asking())

    async def _patiently(self, work: Awaitable[T], seconds: float = 0) -> T:
        seconds = seconds or self.granted_seconds
        try:
            async with asyncio.timeout(seconds):
                return await work
        except TimeoutError:
            trouble = self._driver.trouble
            if self._driver.refused:
                raise errors.CoordinationError(f"ZooKeeper: {trouble}") from None
            why = f"no majority of ZooKeeper's servers at {self._hosts} answered within {seconds:g} s"
            why += f" ({trouble})" if trouble else ""
            raise errors.CoordinationUnavailable(f"{why}: look after them; this goes on by itself") from None
        except driver.Refused as refused:
            why = self._driver.trouble if self._driver.refused else f"refused ({refused}): look at its access rules and its log"
            raise errors.CoordinationError(f"ZooKeeper: {why}") from None

    async def _back(self, holder: plan.Holder) -> None:
        """Wait until the connection is back. Raises CoordinationUnavailable when the life has ended meanwhile."""
        await asyncio.sleep(_PAUSE_SECONDS)
        await self._arrived()
        if self._holder != holder:
            raise self._over()

    async def _arrived(self) -> None:
        """Wait until the connection is up and a life has begun. Raises CoordinationUnavailable once this is closed."""
        await self._reached.wait()
        if self._closed:
            raise errors.CoordinationUnavailable(f"session {self.name!r} is closed")

    def _over(self) -> errors.CoordinationUnavailable:
        return errors.CoordinationUnavailable(f"session {self.name!r} was lost: read before repeating anything")

    def _linked(self, link: driver.Link) -> None:
        """Take note of what the library says of the connection."""
        if self._closed:
            return
        if link is driver.Link.CONNECTED:
            self._link.set()
            if self._holder is not None:
                self._resume()
        else:
            self._link.clear()
            self._reached.clear()
            self._folders.pause()
            if link is driver.Link.LOST:
                self._lose()
            elif self._holder is not None:
                self._turn(seam.State.SUSPENDED)

    def _end_life(self, holder: plan.Holder) -> None:
        """Take note that another session has ended this one."""
        if self._holder == holder and not self._closed:
            self._reached.clear()
            self._folders.pause()
            self._lose()

    def _lose(self) -> None:
        self._lost += 1
        if self._holder is not None:
            self._holder = None
            self._turn(seam.State.LOST)
            self._spawn(self._begin_again())

    def _resume(self) -> None:
        assert self._holder is not None, "there is a life to go on with"
        self._reached.set()
        self._folders.resume()
        self._turn(seam.State.CONNECTED)
        self._spawn(self._look_after(self._holder))

    async def _look_after(self, holder: plan.Holder) -> None:
        """Hear of it when another session ends this one, also if it was while the connection was down."""
        path = self._where.session(self.name)

        def watcher(event: Any) -> None:
            """Called in a thread of the library's."""
            if event.type == driver.DELETED:
                self._driver.hop(self._end_life, holder)

        with contextlib.suppress(driver.Interrupted):  # Until the connection is back.
            (found,) = await self._driver.ask_all([requests.content(path, watcher)])
            parsed = None if isinstance(found, driver.Refused) else layout.parse(found[0])
            if parsed is None or parsed[0].token != holder.token:
                self._end_life(holder)

    def _turn(self, state: seam.State) -> None:
        if state is not self.state:
            say = _log.info if state is seam.State.CONNECTED else _log.warning
            say("coordination turned", state=state.value, session=self.name, hosts=self._hosts)
        self._watches.turn(state)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _begin_again(self) -> None:
        while True:
            try:
                return await self._begin_life()
            except (errors.CoordinationError, errors.AlreadyRunning, driver.Refused) as error:
                _log.warning("coordination cannot begin a session", session=self.name, error=str(error))
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _begin_life(self) -> None:
        """Begin a life, as soon as the connection allows. Raises AlreadyRunning, CoordinationError, Refused."""
        while True:
            await self._link.wait()
            lost = self._lost
            self._lives.append(secrets.token_hex(8))
            try:
                holder = await self._entered(plan.Holder(self.name, self._lives[-1]))
            except driver.Interrupted:
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            except errors.AlreadyRunning:
                if not await self._ended_own():
                    raise
                continue
            if holder is not None and lost == self._lost:
                break
        self._holder = holder
        if self._link.is_set():
            self._resume()

    async def _ended_own(self) -> bool:
        """End a life of this very process: one that it entered just when it heard that the connection was lost, which would
        keep the name from it for as long as both live."""
        try:
            return await ending.end(self._driver, self._reader, self._where, self.name, self._lives)
        except driver.Interrupted:
            return True  # Perhaps: it is looked at again.

    async def _entered(self, holder: plan.Holder) -> plan.Holder | None:
        """Enter a life among the sessions; None where the ground had to be made first."""
        seal, path = self._where.seal(holder.token), self._where.session(self.name)
        line = layout.Header(holder.token, self.name).line()
        made = self._driver.multi(
            [requests.create(seal, path.encode(), ephemeral=True), requests.create(path, line, ephemeral=True)]
        )
        lost = self._lost
        while True:
            try:
                first, second = await self._driver.ask(made)
            except driver.Interrupted:
                await self._link.wait()
                if lost != self._lost:
                    raise
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            if first.code == requests.NO_NODE:
                await self._reader.ensure(seam.SESSIONS)
                return None
            if first.code == requests.OK and second.code == requests.NODE_EXISTS:
                raise errors.AlreadyRunning(f"{self.name!r} has a live session: stop that one, or wait until it expires")
            if requests.NODE_EXISTS not in (first.code, second.code) and (first.code or second.code):
                raise _refused(first.code or second.code)
            return holder


def _refused(code: int) -> errors.CoordinationError:
    return errors.CoordinationError(f"ZooKeeper refused with code {code}: look at its access rules and its log")


def _check_size(request: requests.Multi) -> None:
    if len(request) > requests.MOST_BYTES:
        why = (
            f"{len(request)} bytes in one request to ZooKeeper, which takes {requests.MOST_BYTES}: apply fewer operations at once"
        )
        raise errors.TooLarge(why, limit=requests.MOST_BYTES)
