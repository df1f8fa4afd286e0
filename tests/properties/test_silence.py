"""Nobody who renews where he can is taken for silent, however long the store or coordination is away; whoever is gone is.

A world is drawn in quarters of a second; looks fall anywhere into it, at the pace of one who is not always in time. A node that
lives renews once a second where the store takes it. What is judged is compared with what was true.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callboard import errors, settings
from callboard.roles.domain_controller import silence

QUARTER = silence.NS // 4
LIMITS = silence.Limits(lease_seconds=3.0)
LEASE = 12
"""Quarters."""
COMEBACK = 6
"""What a node has after an outage, in quarters."""
NODES = ("lives", "gone", "later")
"""The second is gone from the beginning; the third dies in the middle."""
After = Callable[[silence.Record, silence.Look, silence.Limits], silence.Record]


class Store(msgspec.Struct, frozen=True):
    """How it is for a quarter of a second."""

    answers: bool = True
    takes: bool = True
    """Whether renewals come through; they fail at once, and their nodes try again a second later."""


WELL = Store()
STORES = st.sampled_from([WELL] * 4 + [Store(answers=False, takes=False), Store(takes=False)])
SPANS = st.lists(st.tuples(STORES, st.integers(1, 40)), min_size=1, max_size=8)
LOOKS = st.lists(st.tuples(st.sampled_from([1, 2, 2, 2, 2, 3, 4, 8]), st.sampled_from([0] * 9 + [1, 3, 7])), max_size=120)
"""Pauses before looks, and how long each takes."""


class Verdict(msgspec.Struct, frozen=True):
    began: int
    ended: int
    node: str


def world(spans: Sequence[tuple[Store, int]]) -> list[Store]:
    return [store for store, quarters in spans for _ in range(quarters)]


def renewals(stores: Sequence[Store], phase: int) -> list[dict[str, int]]:
    """Return what the store says of each node in each quarter."""
    told, now = [], dict.fromkeys(NODES, 0)
    for quarter, store in enumerate(stores):
        if store.takes and quarter % 4 == phase:
            now = now | {
                node: quarter + 1 for node in NODES if node == "lives" or (node == "later" and 2 * quarter < len(stores))
            }
        told.append(now)
    return told


def judge(
    stores: Sequence[Store],
    looks: Sequence[tuple[int, int]],
    phase: int = 0,
    after: After = silence.after,
    *,
    claimants: Sequence[str] = NODES,
    doubtful: Callable[[silence.Record, silence.Look, silence.Limits], bool] = silence.doubtful,
) -> list[Verdict]:
    """Look into a world; return who had not renewed for the lease at each look, whoever is in coordination."""
    told, record, at, found = renewals(stores, phase), silence.Record(), 0, []
    for pause, took in looks:
        began, ended = at + pause, at + pause + took
        if ended >= len(stores):
            break
        at = ended
        during = stores[began : ended + 1]
        if not all(store.answers for store in during):
            record = silence.broken(record)
            continue
        look = silence.Look(began=began * QUARTER, ended=ended * QUARTER, renewed={node: told[began][node] for node in claimants})
        if doubtful(record, look, LIMITS):
            if not all(store.takes for store in during):
                record = silence.broken(record)
                continue
            look = msgspec.structs.replace(look, wrote=True)
        record = after(record, look, LIMITS)
        found += [Verdict(began, ended, node) for node in silence.ripe(record, LIMITS)]
    return found


def wrong(stores: Sequence[Store], looks: Sequence[tuple[int, int]], phase: int = 0, **judges: Any) -> list[Verdict]:
    """Return the verdicts on a node that lives, and those on another one that renewed within the lease."""
    told = renewals(stores, phase)
    verdicts = judge(stores, looks, phase, **judges)
    return [v for v in verdicts if v.node == "lives" or told[v.began][v.node] > max(0, v.began - LEASE) + 1]


def within(seconds: int) -> list[tuple[int, int]]:
    """Looks in time, every half a second."""
    return [(2, 0)] * (2 * seconds)


@given(SPANS.map(world), LOOKS, st.integers(0, 3))
@example(world([(Store(takes=False), 40), (WELL, 20)]), within(15), 3)
@example(world([(WELL, 9), (Store(answers=False, takes=False), 240), (WELL, 20)]), within(70), 0)
def test_no_outage_of_any_length_makes_a_node_silent_that_lives(stores, looks, phase):
    """Nobody answers for it in coordination meanwhile, which may be away, too."""
    assert wrong(stores, looks, phase) == []


@given(st.integers(0, 40), st.integers(0, 3), st.booleans(), st.sampled_from([Store(takes=False), Store(False, False)]))
def test_whoever_is_gone_is_found_within_lease_and_a_look(outage, phase, alone, store):
    """Within half of it after the store was away; also when nobody else renews, and so nothing but the looks is written."""
    stores = world([(WELL, 8), (store, outage), (WELL, 40)])
    claimants = ("gone",) if alone else NODES
    found = [v for v in judge(stores, within(30), phase, claimants=claimants) if v.node == "gone"]
    assert any(v.began <= max(LEASE, 8 + outage + COMEBACK) + 4 for v in found)


ANYBODY = st.sets(st.sampled_from(NODES)).map(frozenset)


@given(ANYBODY, ANYBODY, ANYBODY, ANYBODY)
def test_whoever_is_in_coordination_or_in_no_list_is_not_silent(ripe, living, answered, listed):
    found = set(silence.silent(ripe, silence.Presence(living=living, answered=answered, listed=listed)))
    assert found == (ripe & listed) - living - answered


# Broken ones, which the above must tell apart.


def forgets_nothing(record, look, limits):
    """A renewal does not end the count."""
    made = silence.after(record, look, limits)
    kept = {node: quiet for node, quiet in record.quiet.items() if node in look.renewed}
    return msgspec.structs.replace(made, quiet={**made.quiet, **kept})


def ignores_gaps(record, look, limits):
    """What was not looked at counts as quiet."""
    near = msgspec.structs.replace(record, looked=look.ended) if record.looked else record
    return silence.after(near, look, limits)


def trusts_the_first_look(record, look, limits):
    """A gap gives nobody time to come back."""
    return msgspec.structs.replace(silence.after(record, look, limits), whole=0)


def believes_that_all_can_write(record, look, limits):
    """A store that answers is taken for one that takes renewals."""
    return silence.after(record, msgspec.structs.replace(look, wrote=True), limits)


def test_one_who_believes_that_all_can_write_is_caught():
    stores = world([(WELL, 9), (Store(takes=False), 40), (WELL, 4)])
    assert wrong(stores, within(14), phase=3) == []
    assert wrong(stores, within(14), phase=3, after=believes_that_all_can_write, doubtful=lambda *_: False)


def test_one_who_overlooks_a_renewal_is_caught():
    assert wrong([WELL] * 60, within(14), after=forgets_nothing)


def test_one_who_ignores_gaps_is_caught():
    """Held up for five seconds, in which the store was away for a node that lives."""
    stores, looks = world([(WELL, 2), (Store(takes=False), 20), (WELL, 20)]), [(1, 0), (21, 0), (1, 0)]
    assert wrong(stores, looks) == []
    assert wrong(stores, looks, after=ignores_gaps)


def test_the_shortest_lease_leaves_a_node_time_to_come_back_and_one_of_a_second_would_not(monkeypatch):
    """Half of it is what there is after a gap, and renewals are a second apart."""
    stores, looks = world([(WELL, 3), (Store(answers=False, takes=False), 40), (WELL, 20)]), [(2, 0), (1, 0), *within(15)]
    assert not any(wrong(stores, looks, phase) for phase in range(4))
    with pytest.raises(errors.InvalidSetting):
        settings.load(flags={"controller.lease_seconds": str(LIMITS.lease_seconds - 0.1)})
    monkeypatch.setitem(globals(), "LIMITS", silence.Limits(lease_seconds=1.0))
    assert any(v.node == "lives" for phase in range(4) for v in judge(stores, looks, phase))


def test_one_who_gives_no_time_after_a_gap_is_caught():
    stores = world([(WELL, 3), (Store(answers=False, takes=False), 40), (WELL, 20)])
    assert wrong(stores, within(15), phase=2) == []
    assert wrong(stores, within(15), phase=2, after=trusts_the_first_look)
