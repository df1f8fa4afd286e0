"""What travels between the hub and its clients: MessagePack messages, each behind four bytes of length. Pure.

Topics are small numbers and bodies are opaque here: what they mean is known one floor up (`jobs.hub_hints`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

MAX_FRAME = 4 << 20
"""Bytes of one message at most; a longer one ends the connection."""
_length = struct.Struct(">I")


class Message(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Base of the messages."""


class Hello(Message, tag=1, frozen=True, gc=False):
    """First message of a client: who does not know the hub's secret is sent away."""

    secret: str
    topics: tuple[int, ...] = ()
    """What this client wants to be told of."""


class Want(Message, tag=2, frozen=True, gc=False):
    """A client wants these topics from now on, and no others."""

    topics: tuple[int, ...]


class Wanted(Message, tag=3, frozen=True, gc=False):
    """The hub tells a client which topics any *other* client wants. The first one also says that the client is let in."""

    topics: tuple[int, ...]


class Publish(Message, tag=4, frozen=True, gc=False):
    """To the hub, and from it to every other client that wants the topic."""

    topic: int
    body: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Hello | Want | Wanted | Publish)


class Malformed(Exception):
    """Raised when what arrived is no message: the connection is of no use any more."""


def encode(message: Message) -> bytes:
    """Return a message as it goes over the wire."""
    body = _encoder.encode(message)
    return _length.pack(len(body)) + body


class Splitter:
    """Cuts a stream of bytes into messages. One for each connection and direction."""

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self.limit = limit
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yield the messages that `data` completes. Raises Malformed."""
        self._rest = data if not self._rest else self._rest + data
        while len(self._rest) >= _length.size:
            (size,) = _length.unpack_from(self._rest)
            if size > self.limit:
                raise Malformed(f"a message of {size} bytes is over the limit of {self.limit}")
            end = _length.size + size
            if len(self._rest) < end:
                return
            body, self._rest = self._rest[_length.size : end], self._rest[end:]
            try:
                yield _decoder.decode(body)
            except msgspec.MsgspecError as error:
                raise Malformed(str(error)) from None
