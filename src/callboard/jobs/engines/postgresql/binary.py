"""PostgreSQL's binary forms, written in one go: a driver that adapts value by value takes several times as long.

An array is a whole column of rows; its class of bytes tells the driver the type. `copied` is what COPY takes for new jobs.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Sequence
from typing import Any, Final

import psycopg
from psycopg import adapt, pq


class Smallints(bytes):
    """smallint[]"""


class Ints(bytes):
    """integer[]"""


class Bigints(bytes):
    """bigint[]"""


class Byteas(bytes):
    """bytea[]"""


class Texts(bytes):
    """text[]"""


_TYPES: Final = {Smallints: (1005, 21), Ints: (1007, 23), Bigints: (1016, 20), Byteas: (1001, 17), Texts: (1009, 25)}
"""The numbers of the array's type and of its items': PostgreSQL never changes them."""
_HEAD: Final = struct.Struct(">iiIii")
_LENGTH: Final = struct.Struct(">i")
_BIGINT: Final = struct.Struct(">iq")
_NULL: Final = b"\xff\xff\xff\xff"

UNCLAIMED: Final = 18
"""Columns of a new job that nobody has claimed."""
_COPY_HEAD: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_END: Final = b"\xff\xff"
_TO_DIGEST: Final = struct.Struct(">h ii i16s ii ih iq ih iq iq ii ii ih i".replace(" ", ""))
"""How many columns, and each after its length: domain to codec, and the length of the digest."""
_FROM_BACKOFF: Final = struct.Struct(">iqiqiq")
_WITHOUT_TIMEOUT: Final = struct.Struct(">iqiiq")


def smallints(values: Sequence[int]) -> Smallints:
    return Smallints(_head(Smallints, values) + _fixed("ih", 2, values))


def ints(values: Sequence[int]) -> Ints:
    return Ints(_head(Ints, values) + _fixed("ii", 4, values))


def bigints(values: Sequence[int | None]) -> Bigints:
    if None not in values:
        return Bigints(_head(Bigints, values) + _fixed("iq", 8, values))
    items = (_NULL if value is None else _BIGINT.pack(8, value) for value in values)
    return Bigints(_head(Bigints, values) + b"".join(items))


def byteas(values: Sequence[bytes | None]) -> Byteas:
    return Byteas(_head(Byteas, values) + _varied(values))


def texts(values: Sequence[str | None]) -> Texts:
    return Texts(_head(Texts, values) + _varied([None if value is None else value.encode() for value in values]))


def copied(rows: Iterable[tuple[Any, ...]], *, columns: int = UNCLAIMED) -> list[bytes]:
    """Return rows of `schema.INSERTED` or `INSERTED_CLAIMED` as COPY (FORMAT BINARY) takes them, in pieces."""
    pieces = [_COPY_HEAD]
    add = pieces.append
    claimed = columns > UNCLAIMED
    for row in rows:
        domain, id, route, state, sort, priority, run_at, fence, run, max_attempts, codec, digest, args, tags, meta = row[:15]
        backoff, timeout, submitted_at = row[15:18]
        numbers = (8, sort, 2, priority, 8, run_at, 8, fence, 4, run, 4, max_attempts, 2, codec)
        add(_TO_DIGEST.pack(columns, 4, domain, 16, id, 4, route, 2, state, *numbers, len(digest)))
        add(digest)
        add(_LENGTH.pack(len(args)))
        add(args)
        add(_text(tags))
        add(_text(meta))
        if timeout is None:
            add(_WITHOUT_TIMEOUT.pack(8, backoff, -1, 8, submitted_at))
        else:
            add(_FROM_BACKOFF.pack(8, backoff, 8, timeout, 8, submitted_at))
        if claimed:
            node, started_at = row[18:]
            add(_varied([node]))
            add(_NULL if started_at is None else _BIGINT.pack(8, started_at))
    add(_COPY_END)
    return pieces


def _head(array: type[bytes], values: Sequence[object]) -> bytes:
    return _HEAD.pack(1, 1, _TYPES[array][1], len(values), 1)


def _fixed(item: str, size: int, values: Sequence[int | None]) -> bytes:
    return struct.pack(">" + item * len(values), *itertools.chain.from_iterable(zip(itertools.repeat(size), values)))


def _varied(values: Iterable[bytes | None]) -> bytes:
    return b"".join([_NULL if value is None else _LENGTH.pack(len(value)) + value for value in values])


def _text(value: str | None) -> bytes:
    if value is None:
        return _NULL
    encoded = value.encode()
    return _LENGTH.pack(len(encoded)) + encoded


class _Dumper(adapt.Dumper):
    """Hands an array to the driver as it is."""

    format = pq.Format.BINARY

    def dump(self, obj: bytes) -> bytes:
        return obj


for _array, (_oid, _) in _TYPES.items():
    psycopg.adapters.register_dumper(_array, type(f"{_array.__name__}Dumper", (_Dumper,), {"oid": _oid}))
