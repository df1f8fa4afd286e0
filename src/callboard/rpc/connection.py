"""One link between two nodes, from the greeting to its end: each frame that comes goes where it belongs.

What waits to be sent is bounded: past `queued_bytes` nothing more is asked, past twice that the link is closed. `peers` owns
the connections, `asking` and `answering` the requests on them, `outbox` what is to be sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from callboard import errors
from callboard.kit import clock, telemetry
from callboard.rpc import answering, asking, frames, handshake, limits, network, outbox, serving


class Owner(Protocol):
    """Whoever has the connections: `peers.Peers`."""

    identity: handshake.Identity
    table: serving.Table
    clock: clock.Clock
    limits: limits.Limits
    refusals: telemetry.Seldom

    def allowed(self, connection: Connection, link: network.Link) -> bool:
        """Whether a new link may go on to the greeting."""

    def established(self, connection: Connection) -> None:
        """It knows its peer now."""

    def leaving(self, connection: Connection) -> None:
        """The other side begins no more requests on it, and wants none."""

    def noticed(self, connection: Connection, notice: frames.Notice) -> None:
        """A notice came."""

    def gone(self, connection: Connection, why: str) -> None:
        """The link has ended."""


class Connection:
    """The receiver of one link. On one event loop."""

    def __init__(self, owner: Owner, greeting: handshake.Dialled | handshake.Dialling) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._greeting = greeting
        self._link: network.Link | None = None
        self._leaving = self._left = self._closed = False
        self._heard_at = 0.0
        self._messages = 0
        """How many were sent at the last tick."""
        self._handlers: dict[type[frames.Frame], Callable[[Any], None]] = {}
        self.dialled_here = isinstance(greeting, handshake.Dialling)
        self.greeted: asyncio.Future[errors.CallboardError | None] = self._loop.create_future()
        """Done when both sides know each other, or will not: with the reason why not."""
        self.peer = handshake.Identity("", "", "")
        self.established_at = 0.0
        """Time of the loop."""
        self.since = 0
        """Microseconds UTC."""
        self.out: outbox.Outbox
        self.asking: asking.Asking
        self.answering: answering.Answering

    @property
    def known(self) -> bool:
        """Whether it knows its peer."""
        return bool(self._handlers)

    @property
    def usable(self) -> bool:
        """Whether requests may begin on it."""
        return self.known and not (self._leaving or self._left or self._closed)

    @property
    def server(self) -> str:
        """Name of the other server, by its certificate."""
        return self._link.peer_server if self._link is not None else ""

    def check_room(self, size: int) -> None:
        """Raise TooLarge or Overloaded unless a request of so many bytes may begin."""
        limits = self._owner.limits
        if size > limits.message_bytes:
            said = f"the arguments have {size} bytes: {limits.message_bytes} is the most"
            raise errors.TooLarge(said, limit=limits.message_bytes, ran="no")
        if len(self.asking.waiting) >= limits.in_flight or self.out.waiting_bytes + size > limits.queued_bytes:
            raise errors.Overloaded(f"too many requests wait for node {self.peer.incarnation}: try again later", ran="no")

    def notify(self, topic: str, body: bytes) -> bool:
        """Send a notice; tell whether there was room for it."""
        if self._closed or self.out.waiting_bytes + len(body) > self._owner.limits.queued_bytes:
            return False
        self.out.send(frames.Notice(topic, body), len(body))
        return True

    # What those who ask and answer need: `asking.Sender`.

    def send(self, frame: frames.Frame, size: int) -> None:
        out = self.out
        out.send(frame, size)
        if out.waiting_bytes > 2 * self._owner.limits.queued_bytes:
            self.close("it does not read what it is sent")

    def take_back(self, id: int) -> bool:
        return self.out.take_back(id)

    def ended(self) -> None:
        if self._left and self._leaving and not self.asking.waiting and not self.answering.count:
            self._loop.call_soon(self._finish)

    # The network: `network.Receiver`.

    def connected(self, link: network.Link) -> None:
        self._link = link
        self.out = outbox.Outbox(self._loop, link, self._unsendable)
        self._heard_at = self._loop.time()
        if self._closed or not self._owner.allowed(self, link):
            link.close()  # Closed: whoever dialled did not wait for it.
        elif isinstance(self._greeting, handshake.Dialled):
            self.out.send(self._greeting.opening(), 0)

    def received(self, message: bytes) -> None:
        if self._closed:
            return
        self._heard_at = self._loop.time()
        handlers = self._handlers
        try:
            if not handlers and len(message) > handshake.MESSAGE_BYTES:
                raise errors.MalformedFrame(f"{len(message)} bytes came before a greeting")
            greet = self._greet
            for frame in frames.decode(message):
                if self._closed:
                    return  # By what came before it: whoever asked has been told that the link is gone.
                handlers.get(type(frame), greet)(frame)
        except errors.WireRefused as error:
            self._refuse(error)

    def paused(self) -> None:
        self.out.pause()

    def resumed(self) -> None:
        self.out.resume()

    def closed(self, why: str) -> None:
        self._end(why)

    # Its life.

    def leave(self, why: str) -> None:
        """Begin no more requests; close when what is under way on both sides has ended."""
        if self.known and not self._leaving and not self._closed:
            self._leaving = True
            self.send(frames.Goodbye(why), len(why))
            self.ended()

    def tick(self, judge: bool) -> None:
        """Called every now and then: say that this side is there, and give up a link of which nothing was heard for too long.

        Without `judge` the silence counts from now: whoever calls was late, and may not have read what has come.
        """
        if self._link is None:
            return  # Still dialling, for which there is a time of its own.
        now, silent_seconds = self._loop.time(), self._owner.limits.silent_seconds
        if not judge:
            self._heard_at = now
        if now - self._heard_at > silent_seconds:
            self.close(f"nothing was heard of it for {silent_seconds:g} s")
        elif self.known and self.out.messages == self._messages:
            self.out.send(frames.Ping(0), 0)
        self._messages = self.out.messages

    def close(self, why: str) -> None:
        """Close at once; what is under way ends with ConnectionLost. Allowed twice, and before there is a link."""
        if self._link is not None and not self._closed:
            self.out.flush()
            self._link.close()
        self._end(why)

    def _end(self, why: str) -> None:
        if self._closed:
            return
        self._closed = True
        unsent = self.out.close() if self._link is not None else []
        if self.known:
            self.asking.lost(why, unsent)
            self.answering.stop()
        if not self.greeted.done():
            self.greeted.set_result(errors.Unreachable(f"the connection ended in the greeting: {why}", ran="no"))
        self._owner.gone(self, why)

    def _finish(self) -> None:
        self.close("both sides had no more to say")

    # What comes.

    def _greet(self, frame: frames.Frame) -> None:
        if self.known:
            raise handshake.unexpected(frame, "anything but a greeting")
        peer, answer = self._greeting.heard(frame)
        if answer is not None:
            self.out.send(answer, 0)
        if peer is not None:
            self._establish(peer)

    def _establish(self, peer: handshake.Identity) -> None:
        owner = self._owner
        self.peer, self.since, self.established_at = peer, owner.clock.now(), self._loop.time()
        self.asking = asking.Asking(self._loop, self, peer.incarnation)
        self.answering = answering.Answering(self._loop, self, owner.table, owner.clock, peer.incarnation, owner.limits)
        self._handlers = {
            frames.Reply: self._replied,
            frames.Request: self.answering.requested,
            frames.Failure: self._failed,
            frames.Elsewhere: self._failed,
            frames.Cancel: self._cancelled,
            frames.Notice: self._noticed,
            frames.Ping: self._pinged,
            frames.Pong: self._ponged,
            frames.Goodbye: self._parted,
            frames.Refused: self._refused,
        }
        if not self.greeted.done():
            self.greeted.set_result(None)
        owner.established(self)

    def _replied(self, reply: frames.Reply) -> None:
        self.asking.answered(reply.id, reply.result)

    def _failed(self, frame: frames.Failure | frames.Elsewhere) -> None:
        self.asking.answered(frame.id, frame)

    def _cancelled(self, frame: frames.Cancel) -> None:
        self.answering.cancel(frame.id)

    def _noticed(self, notice: frames.Notice) -> None:
        self._owner.noticed(self, notice)

    def _pinged(self, ping: frames.Ping) -> None:
        self.send(frames.Pong(ping.n), 0)

    def _ponged(self, _pong: frames.Pong) -> None:
        """That it came is all it says."""

    def _parted(self, goodbye: frames.Goodbye) -> None:
        if not self._left:
            self._left = True
            self._owner.leaving(self)
            self.leave(goodbye.why)
            self.ended()

    def _refused(self, refused: frames.Refused) -> None:
        self.close(f"it refused what was sent: {refused.message:.200}")

    # What goes wrong.

    def _refuse(self, error: errors.WireRefused) -> None:
        """Tell both sides why there will be no connection, or no more of it."""
        self._owner.refusals.warning("a node is refused", code=error.code, why=error.message, node=self.peer.incarnation)
        self.out.send(frames.Refused(error.code, error.message), len(error.message))
        if not self.greeted.done():
            error.data.setdefault("ran", "no")
            self.greeted.set_result(error)
        self.close(error.message)

    def _unsendable(self, frame: frames.Frame, why: str) -> None:
        match frame:
            case frames.Request():
                self.asking.answered(frame.id, errors.TooLarge(f"the request cannot be sent: {why}", ran="no"))
            case frames.Reply():
                error = errors.InvalidResult(f"the result cannot be sent: {why}", ran="yes")
                self.out.send(answering.failure(frame.id, error), 0)
            case _:
                self._owner.refusals.warning("a frame cannot be sent", code=type(frame).__name__, why=why)
