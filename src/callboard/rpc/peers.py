"""A node's connections to other nodes: one a pair, made when first needed, whoever dials.

`names.resolver` and `broadcast` ask through it, roles push notices through it. What answers is in `serving.Table`; what
travels is `connection`'s; which instance to ask is not known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from callboard import errors
from callboard.kit import clock, lifecycle, telemetry
from callboard.rpc import answering, asking, connection, dials, frames, handshake, limits, network, serving

Listener = network.Listener
Identity = handshake.Identity
Limits = limits.Limits

MOST_TIMEOUT_SECONDS: Final = 86_400.0
STOP_SECONDS: Final = 5.0
"""How long `stop` waits for handlers that were cancelled."""
SINCE: Final = "peers.since"
"""Topic of the first notice on each connection: the number of the sender's acquaintance with the other node."""

log = structlog.get_logger()


class Acquaintance:
    """From the first connection to a node until none is left. Either side may find it over before the other one does."""

    def __init__(self, mine: int) -> None:
        self.mine = mine
        """Its number here: a higher one each time."""
        self.theirs = 0
        """Its number there; 0 until it was heard."""


class Peers(lifecycle.Lifecycle):
    """One per node. On one event loop."""

    def __init__(
        self,
        identity: Identity,
        network: network.Network,
        table: serving.Table,
        *,
        clock: clock.Clock,
        secret: bytes,
        secret_of: Callable[[network.Address], bytes | None],
        host: str = "127.0.0.1",
        port: int = 0,
        server: str = "",
        chance: Callable[[], float] = random.random,
        limits: Limits = limits.Limits(),  # noqa: B008  # Frozen.
    ) -> None:
        """`secret` is asked of those who dial; empty only where certificates are. `secret_of` knows those of others (None: it is
        gone). `server` is the name in this node's certificate, empty without one."""
        super().__init__()
        self.identity = identity
        self.table = table
        self.clock = clock
        self.limits = limits
        self.refusals = telemetry.Seldom(clock)
        self._network = network
        self._secret = secret
        self._secret_of = secret_of
        self._host, self._port = host, port
        self._server = server
        self._listener: Listener | None = None
        self._open: dict[str, connection.Connection] = {}
        """By incarnation: on which requests begin."""
        self._all: dict[connection.Connection, None] = {}
        """In the order of their beginning: simulations replay."""
        self._acquainted: dict[str, Acquaintance] = {}
        self._acquaintances = itertools.count(1)
        self._dials = dials.Dials(self._dial, chance)
        self._heard: dict[str, list[Callable[[str, bytes], None]]] = {}
        self._told: list[Callable[[str], None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._ending: dict[asyncio.Task[None], None] = {}
        self._none_left = asyncio.Event()

    @property
    def listening(self) -> tuple[str, int]:
        """Host and port. Only after `start`."""
        assert self._listener is not None, "it does not listen"
        return self._listener.host, self._listener.port

    @property
    def address(self) -> network.Address:
        """Where this node is reached on its machine. Only after `start`."""
        return network.Address(self.identity.incarnation, *self.listening, self._server)

    def knows(self, address: network.Address) -> bool:
        """Tell whether there is a way to a node from here: its secret is known, or servers have certificates."""
        return self._secret_of(address) is not None

    async def request(
        self,
        address: network.Address,
        *,
        label: str,
        domain: str,
        method: str,
        args: bytes,
        timeout: float,
        epoch: int = 0,
        incarnation: str = "",
        meta: dict[str, str] | None = None,
        electorate: frames.Electorate | None = None,
        again: Callable[[], None] | None = None,
    ) -> bytes | frames.Elsewhere:
        """Send a request and return the answer, within `timeout` seconds, dialling included.

        Elsewhere comes back when an electorate was given and another member was chosen. Raises Unreachable, WireRefused,
        CallErrors and what the method raised; `data["ran"]` says whether it was begun. A caller that is cancelled cancels the
        request. `again` is told of a second answer until the deadline. A request to this node itself takes no network.
        """
        timeout = min(timeout, MOST_TIMEOUT_SECONDS)
        there = self._open.get(address.incarnation)
        if there is None:
            if address.incarnation == self.identity.incarnation:
                budget_us = int(timeout * 1e6)
                here = frames.Request(0, label, domain, method, epoch, budget_us, args, incarnation, meta, electorate)
                return await self._ask_itself(here, timeout)
            began = asyncio.get_running_loop().time()
            there = await self._reach(address, timeout)
            timeout -= asyncio.get_running_loop().time() - began
        there.check_room(len(args))
        asked = there.asking
        budget_us = int(timeout * 1e6)
        return await asked.ask(
            frames.Request(asked.new_id(), label, domain, method, epoch, budget_us, args, incarnation, meta, electorate),
            timeout,
            again,
        )

    def notify(self, incarnation: str, topic: str, body: bytes) -> bool:
        """Send one way over the connection to a node; False when there is none, or no room. It may be lost with it.

        A notice to this node itself is heard before this returns.
        """
        there = self._open.get(incarnation)
        if there is None and incarnation == self.identity.incarnation:
            self._hear(incarnation, topic, body)
            return True
        return there is not None and there.notify(topic, body)

    def listen(self, topic: str, heard: Callable[[str, bytes], None]) -> Callable[[], None]:
        """Call `heard(incarnation, body)` for the notices of a topic; return what ends that."""
        listeners = self._heard.setdefault(topic, [])
        listeners.append(heard)
        return lambda: listeners.remove(heard) if heard in listeners else None

    def on_gone(self, told: Callable[[str], None]) -> Callable[[], None]:
        """Call `told(incarnation)` when the last connection to a node has ended, here or there: what was said to it, or to this
        node, may be lost, and both sides are told. Return what ends the calls."""
        self._told.append(told)
        return lambda: self._told.remove(told) if told in self._told else None

    def connections(self) -> list[dict[str, Any]]:
        """Return JSON-shaped facts of the open connections."""
        return [_facts(each) for each in self._all if each.known]

    async def _start(self) -> None:
        self._listener = await self._network.listen(self._host, self._port, self._accept)
        self._tick(0.0)

    async def _drain(self, grace_seconds: float) -> None:
        assert self._listener is not None
        await self._listener.close()
        for each in list(self._all):
            if each.known:
                self._leave(each, "the node is stopping")
            elif not each.dialled_here:
                each.close("the node is stopping")
        self._none_left.clear()
        if self._all:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_seconds):
                    await self._none_left.wait()

    async def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._listener is not None:
            await self._listener.close()
        await self._dials.stop()
        for each in list(self._all):
            each.close("the node stopped")
        if self._ending:
            await asyncio.wait(self._ending, timeout=STOP_SECONDS)

    async def _ask_itself(self, request: frames.Request, timeout: float) -> bytes | frames.Elsewhere:
        me = self.identity.incarnation
        try:
            async with asyncio.timeout(timeout):
                answer = await answering.outcome(self.table, request, self.clock, me, self.limits.message_bytes)
        except TimeoutError:
            raise errors.DeadlineExceeded(
                f"no answer of this node itself within the time given: {asking.LATE}", ran="unknown"
            ) from None
        return asking.result(answer.result if isinstance(answer, frames.Reply) else answer)

    async def _reach(self, address: network.Address, timeout: float) -> connection.Connection:
        if self.phase is lifecycle.Phase.STOPPED:
            raise errors.Unreachable("this node has stopped", ran="no")
        try:
            async with asyncio.timeout(timeout):
                await self._dials.reach(address)
        except TimeoutError:
            said = f"node {address.incarnation} was not reached within the time given: {asking.NOT_SENT}"
            raise errors.DeadlineExceeded(said, ran="no") from None
        there = self._open.get(address.incarnation)
        if there is None:
            raise errors.Unreachable(f"node {address.incarnation} closed the connection at once", ran="no")
        return there

    async def _dial(self, address: network.Address) -> None:
        secret = self._secret_of(address)
        if secret is None:
            raise errors.Unreachable(f"node {address.incarnation} is gone: its secret is not known here", ran="no")
        made = connection.Connection(self, handshake.Dialling(self.identity, address, secret))
        self._all[made] = None
        try:
            async with asyncio.timeout(self.limits.dial_seconds):
                await self._network.dial(address, made)
                error = await made.greeted
        except TimeoutError:
            said = f"node {address.incarnation} at {address.host}:{address.port} does not answer"
            error = errors.Unreachable(f"{said} within {self.limits.dial_seconds:g} s", ran="no")
        finally:
            if not made.known:
                made.close("nobody waits for it any more")
                self._all.pop(made, None)
        if error is not None:
            raise error

    def _accept(self) -> network.Receiver:
        return connection.Connection(self, handshake.Dialled(self.identity, self._secret))

    def _leave(self, each: connection.Connection, why: str) -> None:
        self.leaving(each)
        each.leave(why)

    def _tick(self, due: float) -> None:
        loop = asyncio.get_running_loop()
        now, period = loop.time(), self.limits.keepalive_seconds / 2
        self._timer = loop.call_at(now + period, self._tick, now + period)
        for each in list(self._all):
            each.tick(judge=now < due + period)

    # What connections tell: `connection.Owner`.

    def allowed(self, new: connection.Connection, link: network.Link) -> bool:
        if new.dialled_here:
            return True
        strangers = sum(not each.known and not each.dialled_here for each in self._all)
        if self.phase in (lifecycle.Phase.DRAINING, lifecycle.Phase.STOPPED):
            return False
        if strangers >= self.limits.strangers:
            why = f"{strangers} others have not said who they are"
            self.refusals.warning("a connection is refused", code=errors.Overloaded.code, why=why)
            return False
        if not self._secret and not link.peer_server:
            why = "there is neither a secret nor a certificate to know it by"
            self.refusals.warning("a connection is refused", code=errors.WrongSecret.code, why=why)
            return False
        self._all[new] = None
        return True

    def established(self, new: connection.Connection) -> None:
        peer = new.peer.incarnation
        old = self._open.get(peer)
        self._dials.alive(peer)
        acquaintance = self._acquainted.get(peer)
        if acquaintance is None:
            acquaintance = self._acquainted[peer] = Acquaintance(next(self._acquaintances))
        new.notify(SINCE, acquaintance.mine.to_bytes(8))
        if old is None or self._stays(old, new) is new:
            self._open[peer] = new
            if old is not None:
                old.leave("another connection stays")
        else:
            new.leave("another connection stays")

    def leaving(self, each: connection.Connection) -> None:
        if self._open.get(each.peer.incarnation) is each:
            del self._open[each.peer.incarnation]

    def noticed(self, sender: connection.Connection, notice: frames.Notice) -> None:
        if notice.topic == SINCE:
            self._compare(sender, int.from_bytes(notice.body))
        else:
            self._hear(sender.peer.incarnation, notice.topic, notice.body)

    def gone(self, each: connection.Connection, why: str) -> None:
        self._all.pop(each, None)
        if not self._all:
            self._none_left.set()
        if not each.known:
            return
        self.leaving(each)
        for task in each.answering.stop():
            self._ending[task] = None
            task.add_done_callback(self._ending.pop)
        if not self._others(each):
            log.debug("a connection ended", node=each.peer.incarnation, why=why)
            self._acquainted.pop(each.peer.incarnation, None)
            self._tell_gone(each.peer.incarnation)

    def _compare(self, sender: connection.Connection, number: int) -> None:
        """Hear as which acquaintance the other side counts a connection: where that is another one than on those before, they
        are over there, though nothing was noticed here."""
        acquaintance = self._acquainted[sender.peer.incarnation]
        before, acquaintance.theirs = acquaintance.theirs, max(number, acquaintance.theirs)
        if before in (0, number):
            return
        for each in self._others(sender) if number > before else [sender]:
            each.close("the other side has lost it")
        if sender.usable:
            self._open[sender.peer.incarnation] = sender
        self._tell_gone(sender.peer.incarnation)

    def _others(self, one: connection.Connection) -> list[connection.Connection]:
        """Return the other connections to the same node."""
        return [each for each in self._all if each is not one and each.peer.incarnation == one.peer.incarnation]

    def _tell_gone(self, incarnation: str) -> None:
        for told in tuple(self._told):
            _call(told, incarnation)

    def _hear(self, incarnation: str, topic: str, body: bytes) -> None:
        for heard in tuple(self._heard.get(topic, ())):
            _call(heard, incarnation, body)

    def _stays(self, old: connection.Connection, new: connection.Connection) -> connection.Connection:
        """Return which of two connections to one node stays. Both sides come to the same answer.

        When both dialled at the same time, that of the lower incarnation; else the new one: whoever dials has no other.
        """
        together = new.established_at - old.established_at <= self.limits.dial_seconds
        if together and old.dialled_here != new.dialled_here:
            mine = self.identity.incarnation < new.peer.incarnation
            return old if old.dialled_here == mine else new
        return new


def _call(told: Callable[..., None], *said: Any) -> None:
    try:
        told(*said)
    except Exception:
        log.exception("a listener failed")


def _facts(each: connection.Connection) -> dict[str, Any]:
    return {
        "peer": each.peer.incarnation,
        "site": each.peer.site,
        "server": each.server,
        "direction": "out" if each.dialled_here else "in",
        "in_flight": len(each.asking.waiting),
        "serving": each.answering.count,
        "late_answers": each.asking.counts.late,
        "double_answers": each.asking.counts.twice,
        "since": datetime.fromtimestamp(each.since / 1e6, UTC).isoformat(),
    }
