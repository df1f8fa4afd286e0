"""Which slots short and long jobs may take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from callboard.jobs import lanes


@pytest.mark.parametrize(
    ("slots", "asked", "has_short", "floor"),
    [
        (16, None, True, 4),
        (2, None, True, 1),
        (1, None, True, 0),
        (16, None, False, 0),
        (16, 6, False, 6),
        (4, 9, True, 4),
        (4, 0, True, 0),
    ],
)
def test_the_floor(slots: int, asked: int | None, has_short: bool, floor: int) -> None:
    assert lanes.floor(slots, asked, has_short) == floor


@given(some.data())
def test_long_jobs_leave_the_floor_and_nothing_is_taken_twice(data: some.DataObject) -> None:
    slots = data.draw(some.integers(1, 100))
    floor = data.draw(some.integers(0, slots))
    long = data.draw(some.integers(0, slots - floor))
    short = data.draw(some.integers(0, slots - long))
    limits = lanes.limits(slots, floor, short, long)
    assert limits.short == slots - short - long
    assert 0 <= limits.long <= limits.short
    assert long + limits.long <= slots - floor
