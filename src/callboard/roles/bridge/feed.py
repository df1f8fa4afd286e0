"""One broker: the link by which its messages come, and its subscriptions. It is lost and made again; several hosts take turns.

What comes is handed to the intake; what is acknowledged and when is its matter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

import msgspec
import structlog

from callboard import errors
from callboard.brokers import address as addresses
from callboard.brokers import link as links
from callboard.kit import backoff, urls
from callboard.roles.bridge import destinations
from callboard.roles.bridge.window import Window, Windows

log = structlog.get_logger()

FIRST_SECONDS: Final = 0.1
MOST_SECONDS: Final = 2.0
"""Pauses before the next try to connect."""
REFUSED_SECONDS: Final = 10.0
"""Pause before what was refused, a login or a destination, is tried again: somebody must mend it first."""
AWAY, REFUSED = "away", "refused"
PROVEN_SECONDS: Final = 5.0
"""How long a connection must last until it counts as good again: one that a message of its broker breaks brings messages, too."""


class Delivery(msgspec.Struct, frozen=True):
    """A message on its way into the store, and where it came from."""

    feed: Feed
    window: Window[Any]
    meant: destinations.Destination
    message: links.Message


Windowed = Window[Delivery]


class Out(Protocol):
    """The way by which something is sent to a broker, beside the link that consumes."""

    async def link(self) -> links.Link:
        """Return an open link. Raises BrokerError."""


class Told(Protocol):
    """Who is told of messages. Called on the loop's thread."""

    def arrived(self, deliveries: list[Delivery]) -> None:
        """Messages that came together."""

    def look(self) -> None:
        """Acknowledgements may be due."""


def name(address: addresses.Address) -> str:
    """Return what a broker is called, whoever writes its hosts in which order."""
    return ",".join(sorted(map(urls.written, address.hosts)))


class Feed:
    """Consumes a broker's destinations. A `links.Told`. On one event loop; `serve` is run as a task."""

    def __init__(
        self,
        address: addresses.Address,
        meant: Sequence[destinations.Destination],
        windows: Windows[Delivery],
        prefetch: int,
        told: Told,
        out: Out,
        make: Callable[..., links.Link] = links.Link,
    ) -> None:
        self.name = name(address)
        self.messages = self.acks = self.tries = self.connections = 0
        """Counters since the start."""
        self._address = address
        self._meant = meant
        self._windows = windows
        self._prefetch = prefetch
        self._told = told
        self._out = out
        self._make = make
        self._link: links.Link | None = None
        self._ended: asyncio.Future[str] | None = None
        self._by_id: dict[str, tuple[Windowed, destinations.Destination]] = {}
        self._open = True
        self._paused: frozenset[tuple[str, str]] = frozenset()
        self._refused: dict[str, asyncio.TimerHandle] = {}
        self._said = ""
        self._complaints: set[str] = set()
        self._delays = backoff.Backoff(FIRST_SECONDS, MOST_SECONDS)

    @property
    def connected(self) -> bool:
        return self._link is not None and self._link.alive

    @property
    def consumed(self) -> list[str]:
        """The destinations that are consumed now."""
        return sorted(meant.name for _, meant in self._by_id.values())

    # What the intake says

    def open(self) -> None:
        """Consume."""
        self._open = True
        self._update()

    def shut(self) -> None:
        """Take no more messages: what is stored is acknowledged, all else goes back to the broker."""
        self._open = False
        self._update()

    def pause(self, queues: frozenset[tuple[str, str]]) -> None:
        """Leave the messages of these (domain, queue) pairs in the broker, and of no others."""
        if queues != self._paused:
            self._paused = queues
            self._update()

    def ack(self, deliveries: Iterable[Delivery]) -> None:
        """Acknowledge messages of open windows."""
        messages = [each.message for each in deliveries]
        if self._link is not None and messages:
            self.acks += len(messages)
            self._link.ack(messages)

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        """Put a message aside for good. Tries until it is done, or the message is somebody else's."""
        delays = backoff.Backoff(1.0, 30.0)
        while delivery.window.open and self._link is not None:
            link, by = self._link, None
            try:
                by = await self._out.link()
                await link.dead_letter(delivery.message, reason, by)
            except errors.BrokerError as error:
                if not isinstance(error, errors.BrokerRefused) and (by is None or not by.alive):
                    await asyncio.sleep(delays.failed())
                    continue
                self._refuse(link, delivery, error.message)
            if delivery.window.open:
                delivery.window.gone()
            return

    def _refuse(self, link: links.Link, delivery: Delivery, why: str) -> None:
        """Leave it to the broker where a message goes of which no letter gets out: one that has no room finds it for this."""
        self._complain(f"dead:{delivery.meant.name}", f"bad messages go where the broker wants them: {why}")
        if delivery.window.open:
            link.nack([delivery.message])

    # The link's life

    async def serve(self) -> None:
        """Stay connected until cancelled."""
        host: urls.Host | None = None
        while True:
            self.tries += 1
            made = self._make(self._address, self, first=host)
            self._ended = asyncio.get_running_loop().create_future()
            try:
                await made.open()
            except errors.CallboardError as error:
                self._went(error.message, isinstance(error, errors.BrokerRefused | errors.InvalidSetting))
            else:
                self._link, host = made, made.host
                self.connections += 1
                proven = asyncio.get_running_loop().call_later(PROVEN_SECONDS, self._proven)
                self._update()
                try:
                    self._went(await self._ended)
                finally:
                    proven.cancel()
            await asyncio.sleep(REFUSED_SECONDS if self._said == REFUSED else self._delays.failed())

    async def close(self) -> None:
        """Give back what is not stored, acknowledge what is, and disconnect."""
        self.shut()
        for timer in self._refused.values():
            timer.cancel()
        if self._link is not None:
            link, self._link = self._link, None
            await link.close()

    # What the link says

    def received(self, messages: list[links.Message]) -> None:
        """See `links.Told`."""
        found = []
        for message in messages:
            subscribed = self._by_id.get(message.subscription)
            if subscribed is not None:
                window, meant = subscribed
                window.arrived(1)
                found.append(Delivery(self, window, meant, message))
        if found:
            self.messages += len(found)
            self._told.arrived(found)

    def refused(self, subscription: str, error: errors.BrokerRefused) -> None:
        """See `links.Told`. The other destinations go on."""
        subscribed = self._by_id.pop(subscription, None)
        if subscribed is not None:
            window, meant = subscribed
            self._windows.closed(window)
            self._told.look()
            self._complain(f"read:{meant.name}", error.message)
            again = asyncio.get_running_loop().call_later(REFUSED_SECONDS, self._again, meant.name)
            self._refused[meant.name] = again

    def lost(self, why: str) -> None:
        """See `links.Told`."""
        self._forget()
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(why)

    def _again(self, destination: str) -> None:
        self._refused.pop(destination, None)
        self._update()

    def _update(self) -> None:
        """Have the subscriptions that should be."""
        if self._link is None or not self._link.alive:
            return
        consumed = {meant.name: id for id, (_, meant) in self._by_id.items()}
        for meant in self._meant:
            wanted = self._open and (meant.domain, meant.queue) not in self._paused and meant.name not in self._refused
            id = consumed.get(meant.name)
            if wanted and id is None:
                id = self._link.subscribe(meant.name, self._prefetch)
                self._by_id[id] = self._windows.opened(self._prefetch), meant
            elif not wanted and id is not None:
                window, _ = self._by_id.pop(id)
                self.ack(self._windows.closed(window))
                self._link.unsubscribe(id)
                self._told.look()  # No slot is kept for what would have come.

    def _forget(self) -> None:
        """The connection is gone, and with it all that was not acknowledged."""
        self._link = None
        for window, _ in self._by_id.values():
            self._windows.closed(window)
        self._by_id.clear()
        self._told.look()

    def _went(self, why: str, refused: bool = False) -> None:
        """Say that the broker is away: once, and once more when it turns out to refuse us."""
        said = REFUSED if refused else AWAY
        if said != self._said:
            log.warning("a message broker is away: its messages wait there", broker=self.name, why=why)
        self._said = said

    def _proven(self) -> None:
        self._delays.succeeded()
        if self._said:
            self._said = ""
            log.info("the message broker is back", broker=self.name)

    def _complain(self, what: str, why: str) -> None:
        if what not in self._complaints:
            self._complaints.add(what)
            log.warning(why, broker=self.name)
