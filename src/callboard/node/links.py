"""Hints from server to server: each agent has a wire to those of the other servers, and carries on what passes its own hub.

What is heard here goes to the agents whose hubs have somebody who wants it; what comes from them goes to the hub here, and
never back over a wire. Whoever cannot be reached, or does not read, loses hints and holds nobody up: a hint is only a reason
to look, and who hears none looks once a second. Only where servers have certificates (`wire.server`).
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import ClassVar, Final

import msgspec
import structlog

from callboard import errors
from callboard.coordination import engine, heeding
from callboard.jobs import hub_hints
from callboard.kit import backoff, clock, grammar
from callboard.names import model
from callboard.node import layout, wiring
from callboard.rpc import hub_client, network, peers, serving, sockets
from callboard.settings import Settings

LABEL: Final = "hints"
"""At which an agent is told what another one's hub wants, and the beginning of the notices' topics."""
WINDOW_SECONDS: Final = 0.005
"""Between two notices of one topic to one server: what is said meanwhile goes together. The first after a rest goes at once."""
BACKLOG_BYTES: Final = 1 << 20
"""What may wait for one server; beyond it, notices are dropped."""
TELL_SECONDS: Final = 3.0
FIRST_DELAY_SECONDS: Final = 0.05
LONGEST_DELAY_SECONDS: Final = 2.0

log = structlog.get_logger()


class Links(heeding.Heeding):
    """The wire of one agent. On one event loop. `sent`, `dropped` and `heard` count notices since the start."""

    label: ClassVar[str] = LABEL

    def __init__(self, given: Settings, session: engine.Session, time: clock.Clock) -> None:
        """The session is the agent's, begun before and closed after this. Raises WrongCertificate."""
        super().__init__(session, (model.SERVERS,))
        self.sent = self.dropped = self.heard = 0
        incarnation = session.name.removeprefix("agent-")
        table = serving.Table(incarnation)
        table.add(self)
        self._peers = peers.Peers(
            peers.Identity(given.cluster, given.site, incarnation),
            sockets.Sockets(wiring.tls(given.wire)),
            table,
            clock=time,
            secret=b"",
            secret_of=lambda _address: b"",
            host=given.wire.host,
            server=given.wire.server or "",
            limits=peers.Limits(queued_bytes=BACKLOG_BYTES),
        )
        self._hub = hub_client.HubClient(layout.Layout(given.directory).hub, self._heard_here, self._hub_wants)
        self._flows = {topic: Flow(functools.partial(self._send, topic)) for topic in hub_hints.TOPICS}
        self._wants: dict[str, frozenset[int]] = {}
        """By agent: what somebody at its hub wants. Only while there is a connection."""
        self._remotes: dict[network.Address, Remote] = {}

    @property
    def address(self) -> network.Address:
        """Where other agents reach this one. Only after `start`."""
        return self._peers.address

    @property
    def linked(self) -> frozenset[str]:
        """The agents that have said what they want, and are connected."""
        return frozenset(self._wants)

    @property
    def methods(self) -> Mapping[str, serving.Method]:
        return {"want": serving.Method("want", self._wanted_there, idempotent=True)}

    def admit(self, domain: str, epoch: int) -> int:
        return 0

    async def _start(self) -> None:
        for topic in hub_hints.TOPICS:
            self._ends.append(self._peers.listen(f"{LABEL}.{topic}", functools.partial(self._heard_there, topic)))
        self._ends.append(self._peers.on_gone(self._gone))
        await self._peers.start()
        await self._hub.start()
        self.woken.set()
        await super()._start()

    async def _stop(self) -> None:
        log.info("hints to other servers end", sent=self.sent, dropped=self.dropped, heard=self.heard)
        await super()._stop()
        for flow in self._flows.values():
            flow.close()
        keepers = [each.keeper for each in self._remotes.values()]
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        await self._hub.stop()
        await self._peers.stop()

    # Who the others are.

    async def _keep(self) -> None:
        delays = backoff.Backoff(FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS)
        while True:
            await self.woken.wait()
            self.woken.clear()
            try:
                entries = await self._session.entries(model.SERVERS)
                delays.succeeded()
            except errors.CoordinationError:  # Those who are known are still the best guess.
                self.woken.set()
                await asyncio.sleep(delays.failed())
            else:
                self._know({found for entry in entries if (found := _address(entry)) is not None})

    def _know(self, addresses: set[network.Address]) -> None:
        addresses.discard(self.address)
        for address in self._remotes.keys() - addresses:
            self._remotes.pop(address).keeper.cancel()
        for address in addresses - self._remotes.keys():
            self._remotes[address] = Remote(functools.partial(self._tell, address))

    async def _tell(self, address: network.Address) -> None:
        wanted = msgspec.msgpack.encode(tuple(self._hub.wanted))
        await self._peers.request(
            address, label=LABEL, domain=grammar.DEFAULT_DOMAIN, method="want", args=wanted, timeout=TELL_SECONDS
        )

    # What hubs want.

    def _hub_wants(self) -> None:
        for remote in self._remotes.values():
            remote.news.set()

    async def _wanted_there(self, call: serving.Call, args: bytes) -> bytes:
        try:
            topics = msgspec.msgpack.decode(args, type=frozenset[int])
        except msgspec.MsgspecError as error:
            raise errors.InvalidInput(f"topics of hints are numbers: {error}") from None
        if call.caller not in self._wants:
            log.info("hints go to and fro", agent=call.caller)
        self._wants[call.caller] = topics
        self._want()
        return b""

    def _gone(self, incarnation: str) -> None:
        if self._wants.pop(incarnation, None) is not None:
            log.info("hints go to and fro no more", agent=incarnation)
        self._want()
        for address, remote in self._remotes.items():
            if address.incarnation == incarnation:
                remote.news.set()

    def _want(self) -> None:
        for topic in hub_hints.TOPICS:
            self._hub.want(topic, any(topic in wanted for wanted in self._wants.values()))

    # What is said.

    def _heard_here(self, topic: int, body: bytes) -> None:
        self._flows[topic].add(body)

    def _heard_there(self, topic: int, _incarnation: str, body: bytes) -> None:
        self.heard += 1
        self._hub.publish(topic, body)

    def _send(self, topic: int, body: bytes) -> None:
        for incarnation, wanted in self._wants.items():
            if topic in wanted:
                if self._peers.notify(incarnation, f"{LABEL}.{topic}", body):
                    self.sent += 1
                else:
                    self.dropped += 1


class Remote:
    """Another server's agent, told what is wanted here at once, when that changes, and when the connection was lost."""

    def __init__(self, tell: Callable[[], Awaitable[None]]) -> None:
        self.news = asyncio.Event()
        self._tell = tell
        self.keeper = asyncio.create_task(self._keep(), name="link")

    async def _keep(self) -> None:
        delays = backoff.Backoff(FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS)
        while True:
            self.news.clear()
            try:
                await self._tell()
            except errors.CallboardError as error:
                log.debug("another server's agent is not reached", code=error.code, why=error.message)
                await asyncio.sleep(delays.failed())
            else:
                delays.succeeded()
                await self.news.wait()


class Flow:
    """What goes out of one topic: at once after a rest, else together with all that comes in the rest of the window."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._bundle = hub_hints.Bundle()
        self._next_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, body: bytes) -> None:
        self._bundle.add(body)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            if loop.time() >= self._next_at:
                self._go()
            else:
                self._timer = loop.call_at(self._next_at, self._go)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _go(self) -> None:
        self._timer = None
        if body := self._bundle.take():
            self._next_at = asyncio.get_running_loop().time() + WINDOW_SECONDS
            self._send(body)


def _address(entry: engine.Entry) -> network.Address | None:
    """Where an agent is reached; None for those without a wire, and for what is said in words that are not known here."""
    try:
        said = msgspec.json.decode(entry.body, type=model.ServerFacts)
    except msgspec.MsgspecError:
        return None
    return said.address if said.host and said.port and said.server else None
