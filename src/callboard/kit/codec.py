"""Payloads: MessagePack inside, JSON outside, never pickle.

A payload is JSON-shaped: mappings with string keys, lists, strings, finite numbers, integers to 64 bits, booleans, null;
bytes travel as base64 strings in JSON and natively in MessagePack, times as RFC 3339 with an offset.
Encoding is deterministic (keys sorted), so that equal payloads have equal bytes.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import msgspec

from callboard import errors

_packer = msgspec.msgpack.Encoder(order="deterministic")
_unpacker = msgspec.msgpack.Decoder()
_json = msgspec.json.Encoder()

pack_trusted = _packer.encode
"""Encode a value that is already known to be JSON-shaped."""
unpack = _unpacker.decode
"""Decode MessagePack bytes into plain values."""


def pack(value: Any, what: str) -> bytes:
    """Encode a value; what `msgspec` turns into JSON's shapes is welcome, sets sorted.

    Raises InvalidInput naming `what` when there is no such shape (NaN and infinities have none), InvalidTime for a datetime
    without an offset.
    """
    try:
        plain = msgspec.to_builtins(value, builtin_types=(bytes, datetime), order="deterministic")
        if _check(plain, what):
            plain = msgspec.to_builtins(plain, builtin_types=(bytes,))
        return _packer.encode(plain)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise errors.InvalidInput(f"{what} cannot be encoded: {error}") from None


def to_json(value: Any) -> bytes:
    """Encode plain values (bytes among them, as base64) as JSON."""
    return _json.encode(value)


def _check(value: Any, what: str) -> bool:
    """Return whether there are times in a value, all with an offset. Raises for what cannot be said in JSON."""
    kind = type(value)
    if kind is float:
        if not math.isfinite(value):
            raise errors.InvalidInput(f"{what} holds {value}, which JSON has no word for")
    elif kind is dict:
        times = False
        for key, item in value.items():
            if type(key) is not str:
                raise errors.InvalidInput(f"{what} has the key {key!r:.60}: keys are strings")
            times |= _check(item, what)
        return times
    elif kind is list or kind is tuple:
        return any([_check(item, what) for item in value])  # A list: every item is checked.
    elif kind is datetime:
        if value.tzinfo is None:
            raise errors.InvalidTime(f"{what} holds the time {value.isoformat()} without an offset from UTC: give it a time zone")
        return True
    return False
