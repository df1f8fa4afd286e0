"""Nobody who shows a sign of life, and nobody in an outage, is taken for silent: against worlds of servers that come and go.

A world is drawn second by second; looks fall anywhere into it. What is judged is compared with what was true: a node may only
be called silent when it, and every agent that lists it, was gone for the whole lease, nothing having been held up meanwhile.
"""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.roles.domain_controller import silence

STEP = silence.NS // 4
LIMITS = silence.Limits(lease_seconds=3.0, gap_seconds=2.0)
NODES = ("a", "b", "c")


class Moment(msgspec.Struct, frozen=True):
    """A quarter of a second of the world."""

    living: frozenset[str]
    answered: frozenset[str]
    renewing: frozenset[str]
    out: bool
    """Whether the store or coordination is out of reach."""


SOME = st.sets(st.sampled_from(NODES)).map(frozenset)
QUIET = st.just(frozenset[str]())
MOMENTS = st.builds(Moment, QUIET | SOME, QUIET | SOME, QUIET | SOME, st.sampled_from([False] * 5 + [True]))
SPANS = st.lists(st.tuples(MOMENTS, st.integers(1, 20)), min_size=1, max_size=12)
LOOKS = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 5)), min_size=1, max_size=60)
"""Pauses before looks, and how long each takes, in quarters of a second."""


def world(spans: list[tuple[Moment, int]]) -> list[Moment]:
    return [moment for moment, quarters in spans for _ in range(quarters)]


def judge(moments: list[Moment], looks: list[tuple[int, int]], after=silence.after) -> list[tuple[int, int, str]]:
    """Look into a world; return (first quarter since which it counted at the earliest, last, node) for each verdict."""
    renewed = [{node: 0 for node in NODES}]
    for number, moment in enumerate(moments):
        renewed.append({node: number + 1 if node in moment.renewing else renewed[-1][node] for node in NODES})
    record, at, found = silence.Record(), 0, []
    for pause, took in looks:
        began, ended = at + pause, at + pause + took
        if ended >= len(moments):
            break
        at = ended
        if any(moment.out for moment in moments[began : ended + 1]):
            record = silence.Record()
            continue
        seen = silence.Look(
            began=began * STEP,
            ended=ended * STEP,
            living=moments[ended].living,
            answered=moments[ended].answered,
            listed=frozenset(NODES),
            renewed=renewed[began + 1],
        )
        record = after(record, seen, LIMITS)
        found += [(began, ended, node) for node in silence.silent(record, seen, LIMITS)]
    return found


def wrong(moments: list[Moment], looks: list[tuple[int, int]], after=silence.after) -> list[str]:
    """Return the verdicts that the world does not bear out."""
    faults = []
    for began, ended, node in judge(moments, looks, after):
        lease = [moments[each] for each in range(began - round(LIMITS.lease_seconds * 4) + 1, began + 1)]
        if any(node in moment.renewing for moment in lease[:-1]):
            faults.append(f"{node} renewed within the lease before {began}")
        if node in moments[ended].living | moments[ended].answered:
            faults.append(f"{node} had somebody to speak for it at {ended}")
    return faults


@given(SPANS.map(world), LOOKS)
def test_a_verdict_is_always_borne_out(moments, looks):
    assert wrong(moments, looks) == []


@given(SPANS.map(world), LOOKS)
def test_after_an_outage_or_a_gap_the_whole_lease_must_pass_again(moments, looks):
    ends = [number for number, moment in enumerate(moments) if moment.out]
    for began, _, node in judge(moments, looks):
        late = [end for end in ends if end <= began]
        seen = _looked(looks, began)
        late = [end for end in late if any(start <= end <= stop for start, stop in seen)]
        assert not late or began - max(late) >= LIMITS.lease_seconds * 4, node


def _looked(looks: list[tuple[int, int]], until: int) -> list[tuple[int, int]]:
    spans, at = [], 0
    for pause, took in looks:
        spans.append((at + pause, at + pause + took))
        at += pause + took
        if at > until:
            break
    return spans


def forgets_nothing(record, look, limits):
    """A broken one: a sign of life does not end the count."""
    made = silence.after(record, look, limits)
    kept = {node: quiet for node, quiet in record.quiet.items() if node in look.renewed}
    return silence.Record(made.looked, {**made.quiet, **kept})


def ignores_gaps(record, look, limits):
    """A broken one: what was not looked at counts as quiet."""
    return silence.after(msgspec.structs.replace(record, looked=look.ended) if record.looked else record, look, limits)


def quiet(quarters: int, **other: frozenset[str]) -> list[Moment]:
    none: frozenset[str] = frozenset()
    moment = Moment(other.get("living", none), other.get("answered", none), other.get("renewing", none), False)
    return [moment] * quarters


@pytest.mark.parametrize("sign", ["living", "answered", "renewing"])
def test_one_who_overlooks_a_sign_of_life_is_caught(sign):
    moments = quiet(13) + quiet(4, **{sign: frozenset("a")}) + quiet(4)
    looks = [(1, 0)] * 40
    assert wrong(moments, looks) == []
    assert wrong(moments, looks, forgets_nothing)


def test_one_who_ignores_gaps_is_told_apart():
    """Held up for five seconds, it saw nothing of what happened meanwhile, and must not judge by it."""
    moments, looks = quiet(60), [(1, 0), (20, 0), (1, 0)]
    assert judge(moments, looks) == []
    assert judge(moments, looks, ignores_gaps)
