"""Who is suspect: judgements of pings. Pure; `now` is a parameter, in nanoseconds of CLOCK_BOOTTIME.

A node that does not answer twice in a row is silent, and whoever holds an office there is suspect. So is one that answers and
does not serve for very long. An observer that is late with its own timers accuses nobody: its counts start again.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

NS: Final = 1_000_000_000

Heard = Literal["held", "waiting", "absent", "nothing"]
"""What came of one ping: see `protocol.Pong`; `nothing`: no answer in time, or no way there."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How a registry looks after those who are registered."""

    period_seconds: float = 0.5
    """Between two pings."""
    timeout_seconds: float = 0.75
    """How long an answer may take."""
    misses: int = 2
    """Pings in a row without a good answer after which somebody is suspect."""
    waiting_seconds: float = 60.0
    """How long a holder may answer and not serve: it may still be starting."""


class Record(msgspec.Struct, frozen=True):
    """What the pings so far came to."""

    misses: int = 0
    waiting_since: int | None = None


def judged(record: Record, heard: Heard, now: int) -> Record:
    """Return the record with one more ping in it."""
    if heard == "held":
        return Record()
    if heard == "waiting":
        return Record(0, now if record.waiting_since is None else record.waiting_since)
    return Record(record.misses + 1, record.waiting_since)


def suspicion(record: Record, now: int, limits: Limits) -> str:
    """Return why somebody is suspect; empty: it is not."""
    if record.misses >= limits.misses:
        return f"{record.misses} pings without an answer"
    if record.waiting_since is not None and now - record.waiting_since >= limits.waiting_seconds * NS:
        return f"it holds the office and does not serve for {limits.waiting_seconds:g} s"
    return ""


def late(due: int, now: int, limits: Limits) -> bool:
    """Tell whether a timer that was due rang so late that nothing can be concluded: more than one period over."""
    return now - due > limits.period_seconds * NS
