"""The list of the dead: addresses that did not answer, and when to look again. Pure; `now` is a parameter, in seconds.

Kept by the resolver, which passes them over while others are there, and rechecks them in the background.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from callboard.kit import backoff
from callboard.rpc import network

FIRST_SECONDS: Final = 0.5
"""Until the first recheck; doubled up to `MOST_SECONDS`."""
MOST_SECONDS: Final = 15.0
FORGET_SECONDS: Final = 300.0
"""After so long without anybody trying it, an address is forgotten: incarnations do not come back."""
MOST: Final = 1024


class _Case:
    __slots__ = ("address", "backoff", "due", "since")

    def __init__(self, address: network.Address, now: float, chance: Callable[[], float]) -> None:
        self.address = address
        self.since = now
        self.backoff = backoff.Backoff(FIRST_SECONDS, MOST_SECONDS, chance)
        self.due = now + self.backoff.failed()


class Dead:
    """Who did not answer, by incarnation; the latest `MOST`."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._cases: dict[str, _Case] = {}

    def __contains__(self, incarnation: object) -> bool:
        return incarnation in self._cases

    def __len__(self) -> int:
        return len(self._cases)

    def add(self, address: network.Address, now: float) -> None:
        """Remember one that did not answer; its recheck keeps its time when it is known already."""
        case = self._cases.setdefault(address.incarnation, _Case(address, now, self._chance))
        case.since = now
        if len(self._cases) > MOST:
            del self._cases[next(iter(self._cases))]

    def discard(self, incarnation: str) -> None:
        """It answered, or it is known to be gone for good."""
        self._cases.pop(incarnation, None)

    def due(self, now: float) -> list[network.Address]:
        """Return those to be looked at now; each is due again later. Forgets those that nobody has tried for long."""
        for incarnation in [key for key, case in self._cases.items() if now - case.since > FORGET_SECONDS]:
            del self._cases[incarnation]
        found = [case for case in self._cases.values() if case.due <= now]
        for case in found:
            case.due = now + case.backoff.failed()
        return [case.address for case in found]
