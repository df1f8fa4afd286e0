"""Rendezvous hashing: which member answers for a key, the same on every machine, without asking anybody.

A member's score for a key is a keyed hash of both; the highest wins. When a member leaves, only its own keys move. Pure.
Called for a broadcast's *elect*, for choosing a registry, and for sharing keys among workers.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterable, Mapping

from callboard import errors


def order(key: str, members: Iterable[str]) -> list[str]:
    """Return the members, best first. Twice the same member counts once; the order given does not matter."""
    seed = _seed(key)
    return [member for _, member in sorted(((_score(seed, member), member) for member in set(members)), reverse=True)]


def pick(key: str, members: Iterable[str]) -> str:
    """Return the member that answers for the key. Raises InvalidInput when there are no members."""
    return _pick(key, tuple(members))


def pick_bounded(key: str, loads: Mapping[str, int], bound: float = 1.25) -> str:
    """Return the best member that has room: none gets more than `bound` times the mean load, counting the new one.

    `loads` holds each member's present load. Raises InvalidInput when there are no members or the bound is under 1.
    """
    if not loads or bound < 1:
        raise errors.InvalidInput(f"cannot choose among {len(loads)} members with bound {bound}: give members, and 1 or more")
    room = math.ceil(bound * (sum(loads.values()) + 1) / len(loads))
    return next(member for member in order(key, loads) if loads[member] < room)


@functools.lru_cache(maxsize=64)
def _pick(key: str, members: tuple[str, ...]) -> str:
    # Remembered: in an *elect*, each recipient of one process asks with the same key and the same list.
    if not members:
        raise errors.InvalidInput("nobody to choose from: the list of members is empty")
    seed = _seed(key)
    return max((_score(seed, member), member) for member in members)[1]


def _seed(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=32).digest()


def _score(seed: bytes, member: str) -> bytes:
    return hashlib.blake2b(member.encode(), digest_size=8, key=seed).digest()
