"""How a node finds the registries and keeps in touch with one: never through a registry's own word.

They are found from the doors of the configured servers, by asking, less the list of the dead. One of them is *home*: it pushes
what changes. When home dies, another one becomes it, and what is remembered is made fresh there. Used by the resolver alone.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import msgspec
import structlog

from callboard import errors
from callboard.kit import backoff, grammar, lifecycle, ring, telemetry
from callboard.names import cache, dead, protocol, retries
from callboard.rpc import doors, network, peers

ASK_SECONDS: Final = 1.0
"""How long one registry, or one node, may take to answer before the next one is asked."""
DOORS_SECONDS: Final = 0.1
"""How long what was read of the doors is believed."""
IDLE_SECONDS: Final = 1.0
"""Between two looks at the list of the dead."""
RETRY_FIRST_SECONDS: Final = 0.05
RETRY_MOST_SECONDS: Final = 1.0

T = TypeVar("T")
ReadDoors = Callable[[], Awaitable[Sequence[doors.Door]]]
_pack = msgspec.msgpack.Encoder().encode
_subscribed = msgspec.msgpack.Decoder(protocol.Subscribed)
_changed = msgspec.msgpack.Decoder(protocol.Changed)
log = structlog.get_logger("callboard.names")


class Registries(lifecycle.Lifecycle):
    """The registries as one node knows them; it keeps `book` true with what home says."""

    def __init__(
        self,
        wire: peers.Peers,
        read_doors: ReadDoors,
        book: cache.Cache,
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        super().__init__()
        self.dead = dead.Dead(chance)
        self.home: network.Address | None = None
        """The registry that pushes to this node; None: no answer is kept true by anybody."""
        self._wire = wire
        self._read_doors = read_doors
        self._book = book
        self._chance = chance
        self._refusals = telemetry.Seldom(wire.clock)
        self._joining = ""
        self._serial = 0
        self._groups: str | None = None
        self._doors: Sequence[doors.Door] = ()
        self._doors_at = -1.0
        self._woken = asyncio.Event()
        self._ends: list[Callable[[], None]] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def _start(self) -> None:
        self._ends = [self._wire.listen(protocol.TOPIC, self._heard), self._wire.on_gone(self._left)]
        self._tasks = [asyncio.create_task(self._keep_home()), asyncio.create_task(self._recheck())]

    async def _stop(self) -> None:
        for end in self._ends:
            end()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.home = None

    # Asking.

    async def ask(self, method: str, args: bytes, read: Callable[[bytes], T]) -> tuple[T, network.Address]:
        """Ask home, or the next registry that answers; return what `read` makes of what was said, and by whom.

        Raises what the registry says (`data["ran"]` is `yes` then), Unreachable when none answers.
        """
        tried: set[str] = set()
        while (address := await self._next(tried)) is not None:
            tried.add(address.incarnation)
            try:
                said = await self.request(address, protocol.REGISTRY, method, args, ASK_SECONDS)
                return understood(read, said), address
            except errors.CallboardError as error:
                if retries.ran(error) == "yes" or isinstance(error, errors.InvalidInput):
                    raise
                self._doubt(address)
        raise errors.Unreachable(f"no registry answers ({len(tried)} asked)", ran="no")

    async def request(self, address: network.Address, label: str, method: str, args: bytes, seconds: float) -> bytes:
        """Ask a label of one node, under no epoch. Raises what `Peers.request` raises; notes who is dead."""
        try:
            answer = await self._wire.request(
                address, label=label, domain=grammar.DEFAULT_DOMAIN, method=method, args=args, timeout=seconds
            )
        except errors.CallboardError as error:
            if retries.absent(error) or (isinstance(error, errors.DeadlineExceeded) and seconds >= ASK_SECONDS):
                self.missed(address)
            raise
        self.dead.discard(address.incarnation)
        assert isinstance(answer, bytes)  # Else comes only to those who elect.
        return answer

    def missed(self, address: network.Address) -> None:
        """Note that nobody answers at an address."""
        self.dead.add(address, asyncio.get_running_loop().time())

    def outdated(self, registry: network.Address, serial: int) -> bool:
        """Tell whether an answer of home was given before a push that was heard already."""
        return registry == self.home and serial < self._serial

    async def doors(self) -> Sequence[doors.Door]:
        """Return the doors of the configured servers, those that are not known to be dead first; a moment old at most."""
        now = asyncio.get_running_loop().time()
        if now - self._doors_at >= DOORS_SECONDS:
            try:
                self._doors = await self._read_doors()
            except (OSError, errors.CallboardError) as error:
                log.warning("doors cannot be read", error=str(error))
            self._doors_at = now
        return sorted(self._doors, key=lambda door: door.incarnation in self.dead)

    async def candidates(self) -> list[network.Address]:
        """Return where registries are said to be, in the order of this node: its own one, then by the ring; the dead last."""
        own = self._wire.identity.incarnation
        found = {door.incarnation: door.address for door in await self.doors() if protocol.REGISTRY in door.roles}
        ordered = ring.order(own, found)
        ordered.sort(key=lambda incarnation: (incarnation in self.dead, incarnation != own))
        return [found[incarnation] for incarnation in ordered]

    async def _next(self, tried: set[str]) -> network.Address | None:
        if self.home is not None and self.home.incarnation not in tried:
            return self.home
        for address in await self.candidates():
            if address.incarnation not in tried and address.incarnation not in self.dead:
                return address
        return None

    # Home.

    async def _keep_home(self) -> None:
        wait = backoff.Backoff(RETRY_FIRST_SECONDS, RETRY_MOST_SECONDS, self._chance)
        while True:
            self._woken.clear()
            if self.home is None:
                await self._settle()
            if self.home is not None:
                wait.succeeded()
                await self._woken.wait()
            else:
                await self._sleep(wait.failed())

    async def _settle(self) -> None:
        for address in await self.candidates():
            try:
                await self._join(address)
            except errors.CallboardError as error:
                if not error.retryable:  # Others pass by themselves: it only begins, or is just gone.
                    why = str(error)
                    self._refusals.warning("a registry cannot be home", code=error.code, registry=address.incarnation, why=why)
                continue
            return

    async def _join(self, address: network.Address) -> None:
        """Make a registry home: subscribe, and have what is remembered made fresh, some seats at a time."""
        self._joining, self._serial = address.incarnation, 0
        seats = self._book.seats()
        try:
            for first in range(0, max(len(seats), 1), protocol.SEATS_AT_ONCE):
                some = seats[first : first + protocol.SEATS_AT_ONCE]
                while not self._welcomed(await self._subscribe(address, some), some):
                    pass
        finally:
            self._joining = ""
        self.home = address
        self._book.drop_loose()

    async def _subscribe(self, address: network.Address, seats: Sequence[tuple[str, str]]) -> protocol.Subscribed:
        args = _pack({"seats": seats})
        return understood(_subscribed.decode, await self.request(address, protocol.REGISTRY, "subscribe", args, ASK_SECONDS))

    def _welcomed(self, said: protocol.Subscribed, seats: Sequence[tuple[str, str]]) -> bool:
        """Take what a registry says of seats; False when it said so before a push that was heard already: ask again."""
        if said.serial < self._serial:
            return False
        if self._groups is not None and said.groups != self._groups:
            self._book.clear()
        self._groups, self._serial = said.groups, said.serial
        self._book.change(seats, said.answers)
        return True

    def _heard(self, incarnation: str, body: bytes) -> None:
        """A registry pushes. One that is not home believes it is, after a connection that broke: it gives up by itself."""
        home = self.home.incarnation if self.home is not None else self._joining
        if incarnation != home:
            return
        changed = _changed.decode(body)
        missed = self._serial and changed.serial > self._serial + 1
        self._serial = max(changed.serial, self._serial)
        self._book.change(changed.seats, changed.answers)
        if missed:
            self._leave_home("a push was lost")

    def _left(self, incarnation: str) -> None:
        if self.home is not None and incarnation == self.home.incarnation:
            self._leave_home("its connection ended")

    def _doubt(self, address: network.Address) -> None:
        if address == self.home:
            self._leave_home("it does not answer")

    def _leave_home(self, why: str) -> None:
        log.info("looking for a registry", left=self.home.incarnation if self.home is not None else "", why=why)
        self.home = None
        self._woken.set()

    # The dead.

    async def _recheck(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(IDLE_SECONDS)
            if self.home is None:
                self._book.drop_loose()
            due = self.dead.due(loop.time())
            if due:
                await asyncio.gather(*(self._look(address) for address in due))

    async def _look(self, address: network.Address) -> None:
        try:
            await self.request(address, protocol.NODE, "ping", _pack({}), ASK_SECONDS)
        except errors.WireRefused:
            self.dead.discard(address.incarnation)  # Another node lives there now: nobody is told to go there any more.
        except errors.CallboardError:
            return
        self._woken.set()

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            pass


def understood(read: Callable[[bytes], T], said: bytes) -> T:
    """Return what `read` makes of an answer. Raises MalformedFrame when that makes no sense: its node is broken, or newer."""
    try:
        return read(said)
    except ValueError as error:
        raise errors.MalformedFrame(f"what a node answered makes no sense: {error}", ran="no") from None
