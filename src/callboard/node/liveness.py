"""Who is alive: pure judgements from what is seen outside of a process. Time is a parameter; nothing here acts.

A node that exited needs no judgement (its pidfd says so). This is about those that exist and may not move: stopped, silent
at rest, or silent behind a handler, which is work until proven otherwise. All ages are counted on the observer's own clock
from what it saw itself change; an observer that was late, because it was stopped or the machine slept, accuses nobody: all ages
start again.
"""

from __future__ import annotations

from typing import Final

import msgspec

NS: Final = 1_000_000_000


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds after which somebody is given up; see `settings.AgentSettings`."""

    stopped_seconds: float = 3.0
    silent_seconds: float = 10.0
    stall_seconds: float = 120.0
    start_seconds: float = 60.0
    late_seconds: float = 2.0
    """Between two looks at most; an observer that took longer judges from the start."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a node: its process state, and its beat. `now` and `deadline` are nanoseconds of CLOCK_BOOTTIME."""

    now: int
    state: str
    tick: int = 0
    running: int = 0
    deadline: int = 0


class Record(msgspec.Struct, frozen=True):
    """What the looks so far came to."""

    at: int
    """The last look."""
    tick: int
    tick_since: int
    """Since when the tick is this one, as far as this observer knows."""
    stopped_since: int | None = None


def judged(record: Record | None, seen: Seen, limits: Limits) -> tuple[Record, str | None]:
    """Return the record with this look in it, and why the node must be killed; None: it may live."""
    late = record is not None and seen.now - record.at > limits.late_seconds * NS
    before = None if late else record
    tick_since = before.tick_since if before is not None and before.tick == seen.tick else seen.now
    stopped_since = None
    if seen.state == "T":
        stopped_since = seen.now if before is None or before.stopped_since is None else before.stopped_since
    after = Record(seen.now, seen.tick, tick_since, stopped_since)
    return after, _verdict(after, seen, limits)


def _verdict(record: Record, seen: Seen, limits: Limits) -> str | None:
    if record.stopped_since is not None and seen.now - record.stopped_since >= limits.stopped_seconds * NS:
        return f"stopped for {limits.stopped_seconds:g} s"
    silent = seen.now - record.tick_since
    if seen.tick == 0:
        return f"not ready after {limits.start_seconds:g} s" if silent >= limits.start_seconds * NS else None
    if silent < limits.silent_seconds * NS:
        return None
    if not seen.running:
        return f"its loop is silent for {limits.silent_seconds:g} s and nothing runs"
    if seen.deadline:
        return "its loop is silent and the handler's deadline is over" if seen.now >= seen.deadline else None
    if silent >= limits.stall_seconds * NS:
        return f"its loop is silent for {limits.stall_seconds:g} s behind a handler without a deadline"
    return None


class LockLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds that the store's write lock may be held by one who does not move."""

    stopped_seconds: float = 2.0
    held_seconds: float = 10.0
    late_seconds: float = 2.0


class Holding(msgspec.Struct, frozen=True):
    """One acquisition of the write lock: (pid, start time) and the number of the acquisition."""

    pid: int
    started: int
    sequence: int


class LockRecord(msgspec.Struct, frozen=True):
    """What the looks at a lock so far came to."""

    at: int
    holding: Holding | None
    since: int


def watched(record: LockRecord | None, holding: Holding | None, now: int, limits: LockLimits) -> LockRecord:
    """Return the record with a look at the lock in it."""
    same = record is not None and record.holding == holding and now - record.at <= limits.late_seconds * NS
    return LockRecord(now, holding, record.since if same and record is not None else now)


def suspicious(record: LockRecord, limits: LockLimits) -> bool:
    """Tell whether one acquisition lasts so long that its holder's state should be looked at."""
    return record.holding is not None and record.at - record.since > limits.stopped_seconds * NS


def holder_judged(record: LockRecord, state: str, limits: LockLimits) -> str | None:
    """Return why the holder, in this process state, must be killed; None: it may go on."""
    held = record.at - record.since
    if state in "Tt" and held > limits.stopped_seconds * NS:
        return f"stopped with the store's write lock held for {limits.stopped_seconds:g} s"
    if state not in "DTt" and held > limits.held_seconds * NS:
        return f"held the store's write lock for {limits.held_seconds:g} s without progress"
    return None
