"""How long to wait before the next try: longer each time, and never all at once.

Used wherever something outside the process may be away for a while: restarts of nodes, a store out of reach, clients.
The backoff of jobs is another one (`jobs.states.backoff`): it must come out the same wherever it is decided.
"""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Delays in seconds: `first`, doubled by every failure, `most` at the most, each spread by ±25 % with `chance` (0 to 1)."""

    def __init__(self, first: float, most: float, chance: Callable[[], float] = random.random) -> None:
        self.first = first
        self.most = most
        self._chance = chance
        self._failures = 0

    def failed(self) -> float:
        """Count a failure; return the seconds to wait before the next try."""
        delay = min(self.first * 2.0 ** min(self._failures, 60), self.most)
        self._failures += 1
        return delay * (0.75 + self._chance() / 2)

    def succeeded(self) -> None:
        """Begin at `first` again."""
        self._failures = 0
