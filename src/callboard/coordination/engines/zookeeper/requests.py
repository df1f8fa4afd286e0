"""ZooKeeper's compound requests, as the wire has them: many steps, all or none, with a result for each; and many reads.

The driver has the first one, but keeps the results of some steps to itself; it lacks the second, which is ten times as fast as
reads one by one. In which transaction the steps were done, only the answer to a `write` tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import msgspec
from kazoo.protocol import serialization
from kazoo.security import OPEN_ACL_UNSAFE

OK: Final = 0
SKIPPED: Final = -2
"""The step stands behind the one that failed."""
NO_NODE: Final = -101
NO_AUTH: Final = -102
BAD_VERSION: Final = -103
NODE_EXISTS: Final = -110
NO_CHILDREN_HERE: Final = -108
ANY: Final = -1
"""For a version: whatever it is."""

_MULTI: Final = 14
_MULTI_READ: Final = 22
_ERROR: Final = -1
_END: Final = bytes(serialization.MultiHeader(-1, True, -1).serialize())


class Step(Protocol):
    """One step of a compound request."""

    @property
    def type(self) -> int: ...

    def serialize(self) -> bytes: ...


class Result(msgspec.Struct, frozen=True):
    """What became of a step: an error code of ZooKeeper's, and the id of the transaction where the answer tells it."""

    code: int = OK
    zxid: int = 0


def create(path: str, content: bytes, *, ephemeral: bool) -> Step:
    step: Step = serialization.Create(path, content, OPEN_ACL_UNSAFE, 1 if ephemeral else 0)
    return step


def delete(path: str) -> Step:
    step: Step = serialization.Delete(path, ANY)
    return step


def write(path: str, content: bytes, version: int = ANY) -> Step:
    step: Step = serialization.SetData(path, content, version)
    return step


def exists(path: str) -> Step:
    """Guard: the node exists."""
    step: Step = serialization.CheckVersion(path, ANY)
    return step


class Multi:
    """Steps in one transaction: what the driver sends and gives the answer back to."""

    type = _MULTI

    def __init__(self, steps: Sequence[Step]) -> None:
        parts = (serialization.MultiHeader(step.type, False, -1).serialize() + step.serialize() for step in steps)
        self._body = b"".join(parts) + _END

    def __len__(self) -> int:
        return len(self._body)

    def serialize(self) -> bytes:
        return self._body

    @staticmethod
    def deserialize(answer: bytes, offset: int) -> list[Result]:
        """Return a result for each step."""
        results: list[Result] = []
        while True:
            header, offset = serialization.MultiHeader.deserialize(answer, offset)
            if header.done:
                return results
            result, offset = _result(header.type, answer, offset)
            results.append(result)


class Content(msgspec.Struct, frozen=True):
    """What a node holds, and what is known of it."""

    body: bytes
    czxid: int
    version: int
    ephemeral: bool


class Contents:
    """Reads of many nodes at once; ZooKeeper 3.6 or later."""

    type = _MULTI_READ

    def __init__(self, paths: Sequence[str]) -> None:
        kind = serialization.GetData.type
        header = bytes(serialization.MultiHeader(kind, False, -1).serialize())
        self._body = b"".join(header + serialization.GetData(path, None).serialize() for path in paths) + _END

    def serialize(self) -> bytes:
        return self._body

    @staticmethod
    def deserialize(answer: bytes, offset: int) -> list[Content | None]:
        """Return the content of each node, None for one that is not there."""
        found: list[Content | None] = []
        while True:
            header, offset = serialization.MultiHeader.deserialize(answer, offset)
            if header.done:
                return found
            if header.type == _ERROR:
                found.append(None)
                offset += serialization.int_struct.size
                continue
            body, offset = serialization.read_buffer(answer, offset)
            stat = serialization.stat_struct.unpack_from(answer, offset)
            found.append(Content(bytes(body or b""), stat[0], stat[4], stat[7] != 0))
            offset += serialization.stat_struct.size


def _result(kind: int, answer: bytes, offset: int) -> tuple[Result, int]:
    if kind == _ERROR:
        return Result(serialization.int_struct.unpack_from(answer, offset)[0]), offset + serialization.int_struct.size
    if kind == serialization.Create.type:
        _, offset = serialization.read_string(answer, offset)
        return Result(), offset
    if kind == serialization.SetData.type:
        _, zxid, *_ = serialization.stat_struct.unpack_from(answer, offset)
        return Result(OK, zxid), offset + serialization.stat_struct.size
    return Result(), offset
