"""What a worker and its child processes say to each other: MessagePack frames, each behind its length in four bytes.

Data only, never code: a child is told the path of a handler and imports it itself.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from callboard.jobs import model
from callboard.roles.worker import endings

HEADER: Final = struct.Struct(">I")


class Hello(msgspec.Struct, frozen=True, tag=True):
    """First to a child: where it finds modules."""

    path: list[str]


class Work(msgspec.Struct, frozen=True, tag=True):
    """To a child: run this job with the handler at `path`; `main` is the file of its program when its module has no name."""

    path: str
    main: str | None
    job: model.Job
    max_result: int


class Begun(msgspec.Struct, frozen=True, tag=True):
    """From a child: it has imported the handler and calls it now."""


class Moved(msgspec.Struct, frozen=True, tag=True):
    """From a child: the job's progress."""

    progress: model.Progress


class Joined(msgspec.Struct, frozen=True, tag=True):
    """From a child: whether the job's end is part of a transaction of the handler's from now on."""

    joined: bool


class Returned(msgspec.Struct, frozen=True, tag=True):
    """From a child: the handler returned this, encoded."""

    result: bytes | None


class Raised(msgspec.Struct, frozen=True, tag=True):
    """From a child: the handler did not return a usable result."""

    failure: endings.Failure


ToChild = Hello | Work
FromChild = Begun | Moved | Joined | Returned | Raised

_encode = msgspec.msgpack.Encoder().encode
to_child = msgspec.msgpack.Decoder(ToChild).decode
from_child = msgspec.msgpack.Decoder(FromChild).decode


def frame(message: ToChild | FromChild) -> bytes:
    """Return a message as it goes through the pipe."""
    body = _encode(message)
    return HEADER.pack(len(body)) + body
