"""ZooKeeper's compound requests, as the wire has them: many steps, all or none, with a result for each; and many reads.

The client library has the first one, but keeps the results of some steps to itself; it lacks the second, which is ten times as
fast as reads one by one. Written by hand with `struct`: a step costs 1 to 2 µs, a third of what the library's classes take.
Of a commit the answer's header tells the transaction: the server applies transactions one by one, and answers each before the
next. (A `create2` is no help: inside a compound request the server takes it for a `create`.)
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from kazoo.protocol import serialization

OK: Final = 0
SKIPPED: Final = -2
"""The step stands behind the one that failed."""
NO_NODE: Final = -101
NO_AUTH: Final = -102
BAD_VERSION: Final = -103
NO_CHILDREN_HERE: Final = -108
NODE_EXISTS: Final = -110
NOT_EMPTY: Final = -111
INVALID_ACL: Final = -114
AUTH_FAILED: Final = -115
LOGIN_REQUIRED: Final = -124
ANY: Final = -1
"""For a version: whatever it is."""
MOST_BYTES: Final = 1_000_000
"""Of a request. ZooKeeper cuts the connection at 1 MiB (jute.maxbuffer), which would look like a fault of the network."""

_CREATE: Final = 1
_DELETE: Final = 2
_READ: Final = 4
_WRITE: Final = 5
_CHECK: Final = 13
_MULTI: Final = 14
_MULTI_READ: Final = 22
_ERROR: Final = -1
_EPHEMERAL: Final = 1
_SEQUENTIAL: Final = 2
_ALL_RIGHTS: Final = 31
_READ_RIGHT: Final = 1

_int: Final = struct.Struct("!i")
_header: Final = struct.Struct("!iBi")
_begun: Final = struct.Struct("!iBii")
"""A header, and the number behind it: in most steps the length of the path, in answers that of the path or body, or the code."""
_stat: Final = struct.Struct("!qq16xi8xq16x")
"""czxid, mzxid, version, session that holds it."""
_version: Final = struct.Struct("!32xi32x")
_zxid: Final = struct.Struct("!q")
"""In the header of the answer; its error code follows, then the results."""
_END: Final = _header.pack(-1, 1, -1)


def acl(scheme: str, name: str) -> bytes:
    """Return the rule that one identity may do anything, nobody else."""
    scheme_bytes, name_bytes = scheme.encode(), name.encode()
    return b"".join(
        (
            struct.pack("!iii", 1, _ALL_RIGHTS, len(scheme_bytes)),
            *(scheme_bytes, _int.pack(len(name_bytes)), name_bytes),
        )
    )


_FLAGS: Final = [_int.pack(flags) for flags in range(4)]
OPEN: Final = acl("world", "anyone")
"""Anybody may do anything."""
OWN: Final = acl("auth", "")
"""Whoever is logged in on the connection that creates it, however that was."""


class Step(msgspec.Struct, frozen=True, gc=False):
    """One step of a compound request, ready for the wire; of a creation without the rule who may do what (`end` is behind it)."""

    begin: bytes
    end: bytes = b""


class Result(msgspec.Struct, frozen=True, gc=False):
    """What became of a step: an error code of ZooKeeper's; and what the answer tells.

    After a creation `path` is what was made, with its number when sequential; after a `write` `version` is that of the content
    now; after both `zxid` is the transaction, which a new node has as its czxid.
    """

    code: int = OK
    zxid: int = 0
    path: str = ""
    version: int = 0


_DONE: Final = Result()


def create(path: str, content: bytes, *, ephemeral: bool = False, sequential: bool = False) -> Step:
    """Create a node. Of a sequential one the server completes the path by ten digits."""
    name = path.encode()
    begun = _begun.pack(_CREATE, 0, -1, len(name))
    flags = (_EPHEMERAL if ephemeral else 0) | (_SEQUENTIAL if sequential else 0)
    return Step(b"".join((begun, name, _int.pack(len(content)), content)), _FLAGS[flags])


def delete(path: str, version: int = ANY) -> Step:
    name = path.encode()
    return Step(b"%b%b%b" % (_begun.pack(_DELETE, 0, -1, len(name)), name, _int.pack(version)))


def write(path: str, content: bytes, version: int = ANY) -> Step:
    name = path.encode()
    begun = _begun.pack(_WRITE, 0, -1, len(name))
    return Step(b"%b%b%b%b%b" % (begun, name, _int.pack(len(content)), content, _int.pack(version)))


def check(path: str, version: int) -> Step:
    """Guard: the node's content has this version."""
    name = path.encode()
    return Step(b"%b%b%b" % (_begun.pack(_CHECK, 0, -1, len(name)), name, _int.pack(version)))


def exists(path: str) -> Step:
    """Guard: the node exists."""
    return check(path, ANY)


def size(step: Step, rule: bytes = OPEN) -> int:
    """Return how many bytes of a request a step takes."""
    return len(step.begin) + (len(rule) + len(step.end) if step.end else 0)


class Multi:
    """Steps in one transaction: what the library sends and gives the answer back to. `rule` is for what is created."""

    type = _MULTI

    def __init__(self, steps: Sequence[Step], rule: bytes = OPEN) -> None:
        parts: list[bytes] = []
        for step in steps:
            parts.append(step.begin)
            if step.end:
                parts += (rule, step.end)
        parts.append(_END)
        self._body = b"".join(parts)

    def __len__(self) -> int:
        return len(self._body)

    def serialize(self) -> bytes:
        return self._body

    @staticmethod
    def deserialize(answer: bytes, offset: int) -> list[Result]:
        """Return a result for each step."""
        results: list[Result] = []
        (zxid,) = _zxid.unpack_from(answer, offset - _zxid.size - _int.size)
        end = len(answer) - len(_END)
        while offset < end:
            kind, _, _, number = _begun.unpack_from(answer, offset)
            offset += _header.size
            if kind == _CREATE:
                begin = offset + _int.size
                offset = begin + number
                results.append(Result(OK, zxid, answer[begin:offset].decode()))
            elif kind == _WRITE:
                (version,) = _version.unpack_from(answer, offset)
                results.append(Result(OK, zxid, "", version))
                offset += _stat.size
            elif kind == _ERROR:
                results.append(Result(number) if number else _DONE)
                offset += _int.size
            else:
                results.append(_DONE)
        return results


class Content(msgspec.Struct, frozen=True, gc=False):
    """What a node holds, and what is known of it: the transactions that created it and that wrote it last among it."""

    body: bytes
    czxid: int
    version: int
    ephemeral: bool
    mzxid: int = 0


class Contents:
    """Reads of many nodes at once; ZooKeeper 3.6 or later."""

    type = _MULTI_READ

    def __init__(self, paths: Sequence[str]) -> None:
        parts: list[bytes] = []
        for path in paths:
            name = path.encode()
            parts.append(b"%b%b\0" % (_begun.pack(_READ, 0, -1, len(name)), name))
        parts.append(_END)
        self._body = b"".join(parts)

    def serialize(self) -> bytes:
        return self._body

    @staticmethod
    def deserialize(answer: bytes, offset: int) -> list[Content | int]:
        """Return the content of each node, or the error code: NO_NODE for one that is not there."""
        found: list[Content | int] = []
        end = len(answer) - len(_END)
        while offset < end:
            kind, _, _, number = _begun.unpack_from(answer, offset)
            offset += _begun.size
            if kind == _ERROR:
                found.append(number)
                continue
            begin = offset
            offset += max(number, 0)
            czxid, mzxid, version, holder = _stat.unpack_from(answer, offset)
            found.append(Content(answer[begin:offset], czxid, version, holder != 0, mzxid))
            offset += _stat.size
        return found


Watcher = Any
"""Called with an event (`type`, `path`) in a thread of the library's: once, then it must be set again."""


def children(path: str, watcher: Watcher = None) -> Any:
    """The request for the names below a node."""
    return serialization.GetChildren(path, watcher)


def content(path: str, watcher: Watcher = None) -> Any:
    """The request for a node's content and its facts."""
    return serialization.GetData(path, watcher)


def look(path: str, watcher: Watcher = None) -> Any:
    """The request that looks at, or watches, a node itself."""
    return serialization.Exists(path, watcher)


def rules(path: str) -> Any:
    """The request for who may do what with a node."""
    return serialization.GetACL(path)


def lets_anybody_write(rule: Any) -> bool:
    """Whether one of the rules that `rules` asks for is for everybody."""
    return rule.id.scheme == "world" and bool(rule.perms & ~_READ_RIGHT)


def sync(path: str) -> Any:
    """The request after which this server knows all that was committed before it."""
    return serialization.Sync(path)
