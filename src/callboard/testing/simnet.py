"""A network for simulations: links that drop, delay, part and heal by seed, on virtual time.

`Fabric` is what lies between all machines; a simulation tells it what to break. `SimNetwork` is one process's way to it, a
`rpc.network.Network`; `CoordinationLink` is its way to the coordination. Messages of one link stay in order, as TCP keeps
them; links overtake each other. A parted link is silent, not closed: what is sent waits, as TCP sends again, and arrives late
when the parting heals before anybody gave up. A killed process's links are reset by its kernel; those of a lost machine fall
silent. A frozen process's kernel takes what arrives; the process sees it when it is thawed.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterable

import msgspec

from callboard import errors
from callboard.rpc import network
from callboard.testing import virtual

COORDINATION = "coordination"
"""The machine name under which the fabric knows the coordination."""
HIGH_BYTES = 1 << 20
LOW_BYTES = 1 << 18


class Weather(msgspec.Struct, frozen=True):
    """How long messages take, one way, in seconds."""

    least_seconds: float = 0.0002
    most_seconds: float = 0.003
    slow_share: float = 0.01
    """Share of messages that are lost once and sent again, as TCP does."""
    slow_seconds: float = 0.25


class Machine:
    """One process on a machine of its own, as the network sees it."""

    def __init__(self, name: str, loop: virtual.VirtualLoop) -> None:
        self.name = name
        self.loop = loop
        self.listeners: dict[int, SimListener] = {}
        self.ends: dict[End, None] = {}


class Fabric:
    """What connects the machines. All randomness is `chance`'s."""

    def __init__(self, timeline: virtual.Timeline, chance: random.Random, weather: Weather | None = None) -> None:
        self.timeline = timeline
        self.chance = chance
        self.weather = weather or Weather()
        self._machines: dict[str, Machine] = {}
        self._parted: set[tuple[str, str]] = set()
        self._held: list[tuple[str, str, Callable[[], None]]] = []
        self._ports = itertools.count(20_000)
        self._kernel = timeline.loop()
        self.join(COORDINATION, self._kernel)

    def join(self, name: str, loop: virtual.VirtualLoop) -> SimNetwork:
        """Put a process onto the network; an earlier one of this name must be gone."""
        self._machines[name] = machine = Machine(name, loop)
        return SimNetwork(self, machine)

    def coordination_link(self, name: str) -> CoordinationLink:
        """Return the way of a process that has joined to the coordination."""
        return CoordinationLink(self, self._machines[name])

    # What a simulation breaks.

    def part(self, senders: Iterable[str], receivers: Iterable[str], *, both_ways: bool = True) -> None:
        """Let nothing through between two groups of machines, or nothing from the first to the second."""
        receivers = list(receivers)
        for sender in senders:
            for receiver in receivers:
                if sender != receiver:
                    self._parted.add((sender, receiver))
                    if both_ways:
                        self._parted.add((receiver, sender))

    def mend(self, senders: Iterable[str], receivers: Iterable[str]) -> None:
        """End what `part` did between two groups, both ways; what was sent meanwhile arrives late, in order on each link."""
        receivers = list(receivers)
        for sender in senders:
            for receiver in receivers:
                self._parted -= {(sender, receiver), (receiver, sender)}
        self._let_through()

    def heal(self) -> None:
        """Let everything through again."""
        self._parted.clear()
        self._let_through()

    def _let_through(self) -> None:
        held, self._held = self._held, []
        for sender, receiver, deliver in held:
            if self.parted(sender, receiver):
                self._held.append((sender, receiver, deliver))
            else:
                deliver()

    def parted(self, sender: str, receiver: str) -> bool:
        """Tell whether nothing gets through from one machine to another just now."""
        return (sender, receiver) in self._parted

    def reset(self, one: str, other: str) -> None:
        """Break all links between two machines; both notice, and what was under way is lost."""
        for end in list(self._machines[one].ends):
            if end.there.name == other:
                end.drop("reset")
                end.other.drop("reset")

    def gone(self, name: str, *, silent: bool) -> None:
        """A killed process: its kernel resets its links; or, `silent`, its machine was lost and nobody hears a word."""
        machine = self._machines[name]
        machine.listeners.clear()
        if not silent:
            self._machines[name] = Machine(name, self._kernel)  # It answers that nobody listens.
        for end in list(machine.ends):
            end.dead = True
            if not silent:
                self.carry(name, end.there.name, lambda end=end: end.other.hear_close("reset"), end.order)  # type: ignore[misc]
        machine.ends.clear()

    # What links use.

    def carry(self, sender: str, receiver: str, deliver: Callable[[], None], order: Order | None = None) -> None:
        """Let `deliver` run on the receiver's loop when a message sent now arrives: late, or when a parting has healed."""
        if self.parted(sender, receiver):
            self._held.append((sender, receiver, lambda: self._send(receiver, deliver, order)))
        else:
            self._send(receiver, deliver, order)

    def _send(self, receiver: str, deliver: Callable[[], None], order: Order | None) -> None:
        when = self.timeline.now + self.delay()
        if order is not None:
            order.last = when = max(when, order.last)
        self.timeline.at(when, virtual.Handle(deliver, (), self._machines[receiver].loop))

    def delay(self) -> float:
        """Draw how long one message takes."""
        weather, draw = self.weather, self.chance.random
        seconds = weather.least_seconds + (weather.most_seconds - weather.least_seconds) * draw() ** 2
        return seconds + weather.slow_seconds * (0.5 + draw()) if draw() < weather.slow_share else seconds

    def machine(self, name: str) -> Machine | None:
        """Return the process that has this name now."""
        return self._machines.get(name)

    def port(self) -> int:
        """Return a port that nobody had before."""
        return next(self._ports)


class Order:
    """One direction of a link: when its last message arrives, so that none overtakes it."""

    def __init__(self) -> None:
        self.last = 0.0


class End:
    """One end of a link: `rpc.network.Link`."""

    other: End

    def __init__(self, fabric: Fabric, here: Machine, there: Machine, receiver: network.Receiver) -> None:
        self.fabric = fabric
        self.here = here
        self.there = there
        self.receiver = receiver
        self.order = Order()
        self.opened = False
        self.dead = False
        self._unread = 0
        self._paused = False
        here.ends[self] = None

    @property
    def peer_server(self) -> str:
        return ""

    def send(self, message: bytes) -> None:
        if self.dead:
            return
        self._unread += len(message)
        self.fabric.carry(self.here.name, self.there.name, lambda: self._arrive(message), self.order)
        if self._unread > HIGH_BYTES and not self._paused:
            self._paused = True
            self.here.loop.call_soon(self.tell, self.receiver.paused)

    def tell(self, verb: Callable[[], None]) -> None:
        """Tell the receiver something, unless the link has closed meanwhile."""
        if not self.dead:
            verb()

    def _arrive(self, message: bytes) -> None:
        """On the other side's loop."""
        self._unread -= len(message)
        if self._paused and self._unread < LOW_BYTES:
            self._paused = False
            self.here.loop.call_soon(self.tell, self.receiver.resumed)
        if not self.other.dead:
            self.other.receiver.received(message)
        elif self.fabric.machine(self.there.name) is not self.there:
            self.fabric.carry(self.there.name, self.here.name, lambda: self.hear_close("reset"))  # By whoever came after it.

    def close(self) -> None:
        if not self.dead:
            self.drop("closed here")
            farewell = "closed by the other side"
            self.fabric.carry(self.here.name, self.there.name, lambda: self.other.hear_close(farewell), self.order)

    def drop(self, why: str) -> None:
        """The link is gone on this side; the receiver hears it soon."""
        if not self.dead:
            self.dead = True
            self.here.ends.pop(self, None)
            if self.opened:
                self.here.loop.call_soon(self.receiver.closed, why)

    def hear_close(self, why: str) -> None:
        """The other side has closed; on this side's loop."""
        if not self.dead:
            self.dead = True
            self.here.ends.pop(self, None)
            if self.opened:
                self.receiver.closed(why)


class SimListener:
    """An open port: `rpc.network.Listener`."""

    def __init__(self, machine: Machine, host: str, port: int, accept: network.Accept) -> None:
        self.machine = machine
        self.host = host
        self.port = port
        self.accept = accept

    async def close(self) -> None:
        self.machine.listeners.pop(self.port, None)


class SimNetwork:
    """One process's way to the others: `rpc.network.Network`. An address's host is a machine's name."""

    def __init__(self, fabric: Fabric, machine: Machine) -> None:
        self._fabric = fabric
        self._machine = machine

    async def listen(self, host: str, port: int, accept: network.Accept) -> SimListener:
        port = port or self._fabric.port()
        if port in self._machine.listeners:
            raise errors.PortInUse(f"another process listens on {host}:{port}: choose another port")
        self._machine.listeners[port] = made = SimListener(self._machine, self._machine.name, port, accept)
        return made

    async def dial(self, address: network.Address, receiver: network.Receiver) -> None:
        if self._fabric.machine(address.host) is None:
            raise errors.Unreachable(f"no machine is called {address.host}: look the address up again")
        outcome: asyncio.Future[None] = self._machine.loop.create_future()
        self._fabric.carry(self._machine.name, address.host, _Knock(self._fabric, self._machine, address, receiver, outcome))
        await outcome


class _Knock:
    """One attempt to open a link. Called on the other side's loop."""

    def __init__(
        self,
        fabric: Fabric,
        here: Machine,
        address: network.Address,
        receiver: network.Receiver,
        outcome: asyncio.Future[None],
    ) -> None:
        self._fabric = fabric
        self._here = here
        self._address = address
        self._receiver = receiver
        self._outcome = outcome

    def __call__(self) -> None:
        there = self._fabric.machine(self._address.host)
        listener = there.listeners.get(self._address.port) if there else None
        if there is None or listener is None:
            return self._back(self._refused)
        theirs = End(self._fabric, there, self._here, listener.accept())
        ours = End(self._fabric, self._here, there, self._receiver)
        theirs.other, ours.other = ours, theirs
        self._fabric.carry(there.name, self._here.name, lambda: self._opened(ours), theirs.order)
        theirs.opened = True
        theirs.receiver.connected(theirs)  # What it says at once must come after that.

    def _back(self, deliver: Callable[[], None]) -> None:
        self._fabric.carry(self._address.host, self._here.name, deliver)

    def _refused(self) -> None:
        if not self._outcome.done():
            self._outcome.set_exception(errors.Unreachable(f"nobody listens at {self._address.host}:{self._address.port}"))

    def _opened(self, ours: End) -> None:
        if self._outcome.done():
            ours.dead = True
            ours.here.ends.pop(ours, None)
            self._fabric.carry(self._here.name, ours.there.name, lambda: ours.other.hear_close("nobody wanted it any more"))
        elif ours.dead:
            self._outcome.set_exception(errors.Unreachable(f"{self._address.host}:{self._address.port} closed the link at once"))
        else:
            ours.opened = True
            self._receiver.connected(ours)
            self._outcome.set_result(None)


class CoordinationLink:
    """A process's way to the coordination, as `coordination.engines.memory` wants it. `part` cuts it, both ways."""

    def __init__(self, fabric: Fabric, machine: Machine) -> None:
        self._fabric = fabric
        self._machine = machine

    async def trip(self) -> None:
        """One way of a request, or its way back: late, or as late as a parting takes to heal. The caller bounds the time."""
        arrived: asyncio.Future[None] = self._machine.loop.create_future()
        self._fabric.carry(COORDINATION, self._machine.name, lambda: None if arrived.done() else arrived.set_result(None))
        await arrived
