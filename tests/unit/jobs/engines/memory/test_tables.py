"""The sorted sets of the memory engine."""

from __future__ import annotations

import random

from callboard.jobs.engines.memory import tables


def test_an_ordered_set_is_one_through_splits_and_removals() -> None:
    chance = random.Random(7)
    ordered: tables.Ordered[int] = tables.Ordered()
    values = chance.sample(range(100_000), tables.RUN_LENGTH * 5)
    for value in values:
        ordered.add(value)
    assert list(ordered) == sorted(values)
    assert len(ordered) == len(values)
    gone, kept = values[: len(values) // 2], values[len(values) // 2 :]
    for value in gone:
        ordered.remove(value)
    assert list(ordered) == sorted(kept)
    for value in [*kept[:50], -1, 200_000]:
        assert list(ordered.below(value)) == sorted((other for other in kept if other < value), reverse=True)
    assert list(ordered.below(None)) == sorted(kept, reverse=True)
    for value in kept:
        ordered.remove(value)
    assert (bool(ordered), list(ordered), list(ordered.below(5))) == (False, [], [])
