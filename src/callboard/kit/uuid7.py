"""UUIDv7 (RFC 9562, section 5.7) as 16 bytes: made, read, written. Job ids and node incarnations are of this kind."""

from __future__ import annotations

import os
import struct
import threading
from binascii import hexlify

_lock = threading.Lock()
_last = 0
_NEAR = 1_000 << 12
_halves = struct.Struct(">QQ")
_AT_ONCE = 128
_chance: list[int] = []
"""Random numbers of 64 bits that were not used yet: asking the system for each costs as much as all the rest."""
os.register_at_fork(after_in_child=_chance.clear)


def make(now: int) -> bytes:
    """Return a new id for the time `now` (microseconds UTC).

    It is greater than all that this process made for times up to a second later (a greater step back begins anew). 48 bits
    of milliseconds, then 12 bits of the microseconds within them, raised by one where two ids would be equal, then 62
    random bits.
    """
    global _last
    stamp = now // 1000 << 12 | now % 1000 * 4096 // 1000
    with _lock:
        if stamp <= _last < stamp + _NEAR:
            stamp = _last + 1
        _last = stamp
        if not _chance:
            _chance.extend(struct.unpack(f"={_AT_ONCE}Q", os.urandom(8 * _AT_ONCE)))
        tail = _chance.pop()
    return _halves.pack(stamp >> 12 << 16 | 0x7000 | stamp & 0xFFF, tail >> 2 | 1 << 63)


def of(milliseconds: int, seed: bytes) -> bytes:
    """Return the id of a time that 16 bytes make: the same for the same, for what must meet its own id when it comes again."""
    high, low = _halves.unpack(seed)
    return _halves.pack((milliseconds & 0xFFFFFFFFFFFF) << 16 | 0x7000 | high & 0xFFF, low >> 2 | 1 << 63)


def milliseconds(value: bytes) -> int:
    """Return the time inside an id, in milliseconds UTC."""
    return int.from_bytes(value[:6], "big")


def valid(value: bytes) -> bool:
    """Tell whether 16 bytes carry the version and variant of a UUIDv7."""
    return len(value) == 16 and value[6] >> 4 == 7 and value[8] >> 6 == 2


def text(value: bytes) -> str:
    """Write an id in the usual form: 8-4-4-4-12 hexadecimal digits in lower case."""
    h = hexlify(value).decode()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def parse(value: str) -> bytes:
    """Read the usual form back. Raises ValueError for anything that is not a UUIDv7."""
    compact = value.replace("-", "")
    if len(value) != 36 or len(compact) != 32 or text(raw := bytes.fromhex(compact)) != value.lower() or not valid(raw):
        raise ValueError(value)
    return raw
