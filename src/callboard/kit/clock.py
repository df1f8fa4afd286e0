"""Time as an argument.

A `Clock` answers two questions: what time a store writes down (`now`, integer microseconds UTC, never falling) and how
much time has passed here (`boot`, integer nanoseconds of CLOCK_BOOTTIME, which goes on while the machine sleeps and which
all processes of one machine share). Deadlines and leases use `boot`; records use `now`.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

SECOND = 1_000_000
"""One second in the microseconds that stores use."""


class Clock(Protocol):
    """What the floors above ask of time. Safe to call from any thread."""

    def now(self) -> int:
        """Return microseconds since 1970 in UTC; never less than the call before."""

    def boot(self) -> int:
        """Return nanoseconds of CLOCK_BOOTTIME: comparable between the processes of one machine until it restarts."""


class SystemClock:
    """The machine's time.

    UTC is kept as an offset to CLOCK_BOOTTIME and corrected forward at once, backward never: when the system's clock is
    set back, `now` goes on from where it was at the pace of CLOCK_BOOTTIME.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offset = time.time_ns() - self.boot()

    def boot(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def now(self) -> int:
        # In this order: a process frozen between the two readings sees a smaller offset, which changes nothing.
        wall = time.time_ns()
        boot = self.boot()
        if wall - boot > self._offset:
            with self._lock:
                self._offset = max(self._offset, wall - boot)
        return (boot + self._offset) // 1000


class ManualClock:
    """Time that moves only when told, for simulations and tests."""

    def __init__(self, now: int = 1_800_000_000 * SECOND) -> None:
        self._now = now

    def now(self) -> int:
        return self._now

    def boot(self) -> int:
        return self._now * 1000

    def advance(self, seconds: float) -> None:
        """Move forward; `seconds` may be a fraction and must not be negative."""
        if seconds < 0:
            raise ValueError("time does not fall")
        self._now += round(seconds * SECOND)
