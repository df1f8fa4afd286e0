"""Lanes: which of a worker's slots short and long jobs may take. Pure; used by the worker role.

Short work must not wait behind long work: a floor of the slots is closed to long jobs, while short ones may use any.
"""

from __future__ import annotations

from typing import NamedTuple


class Limits(NamedTuple):
    """How many jobs of each lane may be claimed now; both together not more than `short`, which is all that is free."""

    short: int
    long: int


def floor(slots: int, asked: int | None, has_short: bool) -> int:
    """Return the slots kept for short jobs: as asked, or a quarter, at least one of two or more, if there are short kinds at all.

    Where nothing is declared short, a floor would lie idle. One slot is never kept: long jobs have to run somewhere.
    """
    if asked is not None:
        return min(asked, slots)
    return max(1, slots // 4) if has_short and slots > 1 else 0


def limits(slots: int, floor: int, short: int, long: int) -> Limits:
    """Return what may be claimed while `short` and `long` jobs hold slots."""
    free = max(slots - short - long, 0)
    return Limits(free, max(min(free, slots - floor - long), 0))
