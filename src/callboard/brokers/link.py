"""A link to a message broker: one connection, on which messages are consumed one by one and sent for certain.

Everything here belongs to the event loop on which `open` was called. A link is used once: whoever owns it makes the next one.

What a broker does that runs out of memory or disk: it stops reading from connections that send, so that acknowledgements behind
the message wait as well. Send on another link than the one that consumes.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from callboard import errors
from callboard.brokers import address as addresses
from callboard.brokers import frames, wire
from callboard.kit import urls

OPEN_SECONDS: Final = 10.0
SEND_SECONDS: Final = 10.0
"""How long a broker may take to say that it has a message."""
CLOSE_SECONDS: Final = 2.0
"""How long it may take to read what was sent last."""
MOST_BYTES: Final = 4 * 1024 * 1024
"""What the body of a message may take that is handed on."""
DEAD_LETTERS: Final = "DLQ."
"""What the name of a destination's dead-letter queue begins with."""
REASON: Final = "callboard-reason"
"""The header of a dead letter that says why it is one."""
MOST_REASON: Final = 1_000
ORIGIN: Final = "callboard-destination"
"""The header of a dead letter that says where it was found."""
_PASSING: Final = frozenset(
    {
        *("subscription", "ack", "message-id", "destination", "content-length", "redelivered"),
        *("timestamp", "expires", "persistent", "receipt", "transaction"),
    }
)
"""Headers of a delivery, not of the message."""

_log = logging.getLogger("callboard.brokers")


class Message(msgspec.Struct, frozen=True):
    """One delivery of a message."""

    subscription: str
    ack: str
    """What acknowledges this delivery; of no other use."""
    id: str
    """The broker's id of the message: the same at each delivery."""
    headers: Mapping[str, str]
    body: bytes
    redelivered: bool
    """Whether it was delivered before, to anybody."""
    dropped: int = 0
    """Bytes of a body over the limit (at least so many), of which nothing is here."""

    @property
    def destination(self) -> str:
        """The name of the queue that it was taken from."""
        return _plain(self.headers.get("destination", ""))


class Told(Protocol):
    """Who is told what happens on a link. All are called on its event loop, must not block, and may call the link."""

    def received(self, messages: list[Message]) -> None:
        """Messages that arrived together, in their order. Some may belong to a subscription that was just ended."""

    def refused(self, subscription: str, error: errors.BrokerRefused) -> None:
        """The broker refuses a subscription: `data["destination"]` names its destination. The link goes on."""

    def lost(self, why: str) -> None:
        """The connection ended, though nobody closed it; once, after `open`. What is not acknowledged is delivered again."""


class Link:
    """One connection to a broker. `first` is the host to try first, where there are several: that of the link before."""

    def __init__(
        self, address: addresses.Address, told: Told, *, most_bytes: int = MOST_BYTES, first: urls.Host | None = None
    ) -> None:
        self.address = address
        self.host: urls.Host | None = None
        """Which of the broker's hosts this is connected to."""
        self.greeting: Mapping[str, str] = {}
        """What it said of itself: headers of its first frame."""
        self._told = told
        self._most_bytes = most_bytes
        self._hosts = sorted(address.hosts, key=lambda host: host != first)
        self._wire: wire.Wire | None = None
        self._numbers = (f"{secret}-{number}" for secret in (secrets.token_hex(4),) for number in itertools.count(1))
        """Ids that no sender guesses: what follows a NUL in a text is read as a frame, whoever wrote it."""
        self._receipts: dict[str, tuple[str, asyncio.Future[None]]] = {}
        self._subscribing: dict[str, tuple[str, str]] = {}
        self._complaint = ""
        self._broken = False

    @property
    def alive(self) -> bool:
        """Whether it is open."""
        return self._wire is not None

    async def open(self, seconds: float = OPEN_SECONDS) -> None:
        """Connect to the first host that serves, log in. Raises BrokerRefused, BrokerUnavailable, InvalidSetting."""
        failures: list[errors.BrokerError] = []
        deadline = asyncio.get_running_loop().time() + seconds
        for tried, host in enumerate(self._hosts):
            left = (deadline - asyncio.get_running_loop().time()) / (len(self._hosts) - tried)
            try:
                connected = await wire.opened(self.address, host, max(left, 0.1), self._most_bytes)
            except errors.BrokerError as error:
                failures.append(error)
                continue
            connected.received, connected.lost = self._received, self._lost
            self._wire, self.host, self.greeting = connected, host, connected.greeting.result().headers
            return
        refused = [error for error in failures if isinstance(error, errors.BrokerRefused)]
        raise (refused or failures)[0]

    def subscribe(self, destination: str, prefetch: int) -> str:
        """Ask for a queue's messages, at most `prefetch` that are not acknowledged; return the subscription's id.

        Raises BrokerUnavailable when the link is not open.
        """
        connected = self._connected()
        id = next(self._numbers)
        receipt = f"subscribe-{id}"
        self._subscribing[receipt] = (id, destination)
        headers = {"activemq.prefetchSize": str(prefetch), "receipt": receipt}
        connected.stomp.subscribe(_path(destination), id, ack="client-individual", headers=headers)
        return id

    def unsubscribe(self, id: str) -> None:
        """End a subscription: what was delivered and not acknowledged before goes to others. Allowed twice.

        Acknowledge first, what may be: the broker does not heed what comes later for messages of this subscription.
        """
        if self._wire is not None:
            self._wire.stomp.unsubscribe(id)

    def ack(self, messages: Iterable[Message]) -> None:
        """Acknowledge deliveries, in one piece. Nothing tells that it arrived: what was lost is delivered again."""
        if self._wire is not None:
            self._wire.write("".join([f"ACK\nid:{message.ack}\n\n\0" for message in messages]).encode())

    def nack(self, messages: Iterable[Message]) -> None:
        """Refuse deliveries: the broker makes them dead letters, or delivers them again, as its own policy is."""
        if self._wire is not None:
            self._wire.write("".join([f"NACK\nid:{message.ack}\n\n\0" for message in messages]).encode())

    async def send(
        self, destination: str, body: bytes, headers: Mapping[str, str] | None = None, seconds: float = SEND_SECONDS
    ) -> None:
        """Send a message that outlives the broker's crash, and wait until the broker has it. Many may be in flight.

        Raises BrokerRefused without the right to; BrokerUnavailable when the broker did not take it in time or the link broke:
        `data["unknown"]` says whether it may have it nevertheless.
        """
        connected = self._connected()
        async with self._within(destination, seconds):
            await connected.writable.wait()
            receipt, done = self._expected(destination)
            given = {**_sendable(headers or {}), **_typed(body), "persistent": "true", "receipt": receipt}
            connected.stomp.send(_path(destination), body, headers=given)
            await done

    async def dead_letter(self, message: Message, reason: str, by: Link, seconds: float = SEND_SECONDS) -> None:
        """Move a message to the dead-letter queue of its destination, with the reason in a header; the letter goes `by` a link.

        That may be another one of the same broker: on the one that consumes, a letter for which there is no room keeps all
        acknowledgements back. The message is acknowledged after the broker has the letter: a crash between makes a second one.
        A message whose body was dropped is refused instead: the broker has it still, and puts it where its policy wants it.
        Raises what `send` raises; the message is then still the broker's.
        """
        if message.dropped:
            self.nack([message])
            return
        kept = {name: value for name, value in message.headers.items() if name not in _PASSING}
        kept |= {REASON: " ".join(reason.split())[:MOST_REASON], ORIGIN: message.destination}
        await by.send(DEAD_LETTERS + message.destination, message.body, kept, seconds)
        self.ack([message])

    async def close(self) -> None:
        """Wait until the broker has read what was sent, acknowledgements too, for up to `CLOSE_SECONDS`; end. Allowed twice."""
        if self._wire is None:
            return
        connected, self._wire = self._wire, None
        connected.lost = lambda why: self._fail(why)
        receipt, done = self._expected("")
        connected.stomp.send_frame("DISCONNECT", {"receipt": receipt})
        await asyncio.wait([done], timeout=CLOSE_SECONDS)
        done.cancel()
        connected.close()
        self._fail("the link was closed")

    def _connected(self) -> wire.Wire:
        if self._wire is None:
            raise errors.BrokerUnavailable(f"there is no connection to the message broker at {self.address.shown}")
        return self._wire

    def _expected(self, destination: str) -> tuple[str, asyncio.Future[None]]:
        """Return a new receipt to ask for, and what is done when it has come."""
        receipt = f"receipt-{next(self._numbers)}"
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.add_done_callback(lambda ended: self._receipts.pop(receipt, None))
        self._receipts[receipt] = (destination, done)
        return receipt, done

    @contextlib.asynccontextmanager
    async def _within(self, destination: str, seconds: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            raise errors.BrokerUnavailable(
                f"the message broker at {self.address.shown} did not take a message into {destination} within {seconds:g} s: "
                "is its store or its memory full (StorePercentUsage and MemoryPercentUsage of its MBean say so)?",
                unknown=True,
                destination=destination,
            ) from None

    def _received(self, found: Sequence[frames.Frame]) -> None:
        messages = []
        for frame in found:
            if frame.command == "MESSAGE":
                headers = frame.headers
                if not frame.ack:
                    self._note_broken(frame)
                    continue
                messages.append(
                    Message(
                        headers.get("subscription", ""),
                        frame.ack,
                        headers.get("message-id", ""),
                        headers,
                        frame.body,
                        "redelivered" in headers,
                        frame.dropped,
                    )
                )
            elif frame.command == "RECEIPT":
                self._receipt(frame.headers.get("receipt-id", ""))
            elif frame.command == "ERROR":
                self._error(frame)
        if messages:
            self._told.received(messages)

    def _note_broken(self, frame: frames.Frame) -> None:
        """A property's name with line ends, which the broker does not escape, cut a frame in two."""
        if not self._broken:
            self._broken = True
            _log.warning(
                "a message cannot be acknowledged, its frame is broken: remove it from its queue at the broker: %s: %s %.200r",
                *(self.address.shown, frame.headers.get("message-id", ""), frame.headers),
            )

    def _receipt(self, receipt: str) -> None:
        self._subscribing.pop(receipt, None)
        _, done = self._receipts.get(receipt, ("", None))
        if done is not None and not done.done():
            done.set_result(None)

    def _error(self, frame: frames.Frame) -> None:
        """An ERROR frame: the answer to something that asked for a receipt, or else to what needs none, such as a late ACK.

        When the broker means it as the end, it closes the connection.
        """
        words, receipt = wire.said(frame), frame.headers.get("receipt-id", "")
        where = f"the message broker at {self.address.shown}"
        if (subscribing := self._subscribing.pop(receipt, None)) is not None:
            id, destination = subscribing
            refused = f"{where} does not let us consume from {destination} ({words}): give its user the right to read it"
            self._told.refused(id, errors.BrokerRefused(refused, destination=destination))
        elif receipt in self._receipts:
            destination, done = self._receipts[receipt]
            if not done.done():
                refused = f"{where} refuses: {words}"
                if destination and "not authorized" in words:
                    refused = (
                        f"{where} does not let us send to {destination} ({words}): give its user the right to write and make it"
                    )
                done.set_exception(errors.BrokerRefused(refused, destination=destination))
        elif not self._complaint:
            self._complaint = words
            _log.warning("a message broker complains: %s: %s", self.address.shown, words)

    def _lost(self, why: str) -> None:
        if self._wire is None:
            return
        self._wire = None
        why += f": it said {self._complaint}" if self._complaint else ""
        self._fail(why)
        self._told.lost(why)

    def _fail(self, why: str) -> None:
        for destination, done in list(self._receipts.values()):
            if not done.done():
                broken = f"the connection to the message broker broke: {why}"
                done.set_exception(errors.BrokerUnavailable(broken, unknown=True, destination=destination))
                done.exception()  # Whoever waits gets it; nobody is told off when nobody does.


class _Nobody:
    """Is told nothing, where nothing is consumed and what waits is told by an exception."""

    def received(self, messages: list[Message]) -> None:
        """There are no subscriptions."""

    def refused(self, subscription: str, error: errors.BrokerRefused) -> None:
        """There are no subscriptions."""

    def lost(self, why: str) -> None:
        """`send` raises."""


NOBODY: Final[Told] = _Nobody()
"""For links that only send."""


async def sent(address: addresses.Address, destination: str, body: bytes, headers: Mapping[str, str], seconds: float) -> None:
    """Send one message on a link of its own, and wait until the broker has it. Raises what `open` and `send` raise."""
    link = Link(address, NOBODY)
    await link.open(seconds)
    try:
        await link.send(destination, body, headers, seconds)
    finally:
        await link.close()


def _path(destination: str) -> str:
    destination = destination.replace("\0", "")
    return destination if destination.startswith("/") else f"/queue/{destination}"


def _plain(path: str) -> str:
    return path.removeprefix("/queue/")


def _sendable(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers without what could end their frame; all else is escaped."""
    return {name.replace("\0", ""): value.replace("\0", "") for name, value in headers.items()}


def _typed(body: bytes) -> dict[str, str]:
    """Headers that make it bytes for those who read it by JMS, where it cannot be a text: a text comes without its length."""
    try:
        return {"content-length": str(len(body))} if "\0" in body.decode() else {}
    except UnicodeDecodeError:
        return {"content-length": str(len(body))}
