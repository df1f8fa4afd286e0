"""What travels between nodes: one WebSocket message is one MessagePack array of frames. Pure: no sockets, no clock.

Frames are arrays behind a small number, append-only: a field added later has a default, and a reader skips what it does not
know at the end of one. `args` is a MessagePack map of named arguments, `result` any MessagePack value (empty: nothing).
`handshake` says in which order the first ones come, `connection` what the others mean.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from callboard import errors
from callboard.kit import grammar

VERSION: Final = 1
"""Version of the protocol spoken here."""
MIN_VERSION: Final = 1
"""Oldest version that is understood here."""


class Frame(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Base of the frames."""


class Challenge(Frame, tag=1, frozen=True, gc=False):
    """First of all, from the node that was dialled: who it is, and what the proof must be made of."""

    version: int
    min_version: int
    cluster: str
    site: str
    incarnation: str
    nonce: bytes


class Hello(Frame, tag=2, frozen=True, gc=False):
    """From the node that dials: who it is, and a proof that it knows the secret of the one it dialled."""

    version: int
    min_version: int
    cluster: str
    site: str
    incarnation: str
    nonce: bytes
    proof: bytes


class Welcome(Frame, tag=3, frozen=True, gc=False):
    """From the node that was dialled: it lets the other one in, and proves that it knows its secret itself."""

    proof: bytes


class Refused(Frame, tag=4, frozen=True, gc=False):
    """Why the connection is about to be closed by whoever sends this: the code of a `WireRefused`."""

    code: str
    message: str


class Electorate(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Of whom exactly one acts: each recipient picks the same one by the ring."""

    key: str
    roll: bytes
    """A MessagePack array of `LABEL/INCARNATION`, the same one for all recipients: it is made and read once for many requests."""

    @classmethod
    def of(cls, key: str, members: Sequence[str]) -> Electorate:
        return cls(key, msgspec.msgpack.encode(members))

    @property
    def members(self) -> tuple[str, ...]:
        """Raises MalformedFrame."""
        return _members(self.roll)


class Request(Frame, tag=5, frozen=True, gc=False):
    """One call. `id` grows by one for each request of one side of a connection."""

    id: int
    label: str
    domain: str
    method: str
    epoch: int
    """The epoch that is meant; 0: any."""
    budget_us: int
    """Microseconds that the caller goes on waiting, counted from the arrival."""
    args: bytes
    incarnation: str = ""
    """Only this instance may answer; empty: whoever has the label here."""
    meta: dict[str, str] | None = None
    electorate: Electorate | None = None

    @property
    def name(self) -> str:
        """The name as it was asked for."""
        domain = "" if self.domain == grammar.DEFAULT_DOMAIN else f"@{self.domain}"
        return self.label + domain + (f"/{self.incarnation}" if self.incarnation else "")


class Reply(Frame, tag=6, frozen=True, gc=False):
    """The answer to a request that went well."""

    id: int
    result: bytes


class Failure(Frame, tag=7, frozen=True, gc=False):
    """The answer to a request that did not."""

    id: int
    code: str
    message: str
    retryable: bool
    data: dict[str, Any]


class Elsewhere(Frame, tag=8, frozen=True, gc=False):
    """The answer of one who was not elected: who was."""

    id: int
    chosen: str


class Cancel(Frame, tag=9, frozen=True, gc=False):
    """Nobody waits for this request any more."""

    id: int


class Notice(Frame, tag=10, frozen=True, gc=False):
    """One way: nothing comes back, and it may be lost with the connection."""

    topic: str
    body: bytes


class Ping(Frame, tag=11, frozen=True, gc=False):
    """Says that this side is there, when there is nothing else to say."""

    n: int


class Pong(Frame, tag=12, frozen=True, gc=False):
    """The answer to a ping."""

    n: int


class Goodbye(Frame, tag=13, frozen=True, gc=False):
    """No more requests come from this side: each side closes when what is under way has ended."""

    why: str


Known = Challenge | Hello | Welcome | Refused | Request | Reply | Failure | Elsewhere | Cancel | Notice | Ping | Pong | Goodbye
"""What a message may hold."""
OVERHEAD: Final = 128
"""Bytes of a frame besides what it carries, about."""
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Known])


@functools.lru_cache(maxsize=16)
def _members(roll: bytes) -> tuple[str, ...]:
    try:
        return msgspec.msgpack.decode(roll, type=tuple[str, ...])
    except (msgspec.MsgspecError, ValueError) as error:
        raise errors.MalformedFrame(f"an electorate is no list of names: {error}") from None


def encode(message: Sequence[Frame]) -> bytes:
    """Return frames as one message. Raises MalformedFrame when one holds what has no place in it."""
    try:
        return _encoder.encode(message)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise errors.MalformedFrame(f"a frame cannot be encoded: {error}") from None


def decode(message: bytes) -> list[Known]:
    """Return the frames of one message. Raises MalformedFrame."""
    try:
        return _decoder.decode(message)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise errors.MalformedFrame(f"what came is no list of frames: {error}") from None


def weight(frame: Frame) -> int:
    """Return about how many bytes a frame takes."""
    match frame:
        case Request():
            elected = len(frame.electorate.roll) if frame.electorate is not None else 0
            meta = sum(len(name) + len(value) for name, value in frame.meta.items()) if frame.meta else 0
            return OVERHEAD + len(frame.args) + elected + meta
        case Reply():
            return OVERHEAD + len(frame.result)
        case Failure():
            return 2 * OVERHEAD + len(frame.message)
        case Notice():
            return OVERHEAD + len(frame.body)
        case _:
            return OVERHEAD
