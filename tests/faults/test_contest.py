"""The judge of a contest finds what it is there for: forged histories, each with one broken promise."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from tests.faults import contest
from tests.faults.contest import Deed


def deed(verb: contest.Verb, at: int, answer: tuple[Any, ...] | None, node: str = "", fence: int = 0, **more: Any) -> Deed:
    """A deed from `at` to a little later, unless `end` says otherwise; of the answer, the end that matters."""
    word, run, found, owner = (*answer, *(0, 0, "")[len(answer) - 1 :]) if answer else ("", 0, 0, "")
    told = (word, run, found, owner) if answer else None
    return Deed(verb=verb, job="a", node=node, fence=fence, begin=at, end=more.pop("end", at + 5), answer=told, **more)


def claim(at: int, node: str, fence: int, run: int = 1, **more: Any) -> Deed:
    return deed("claim", at, ("running", run, fence, node), node, **more)


def look(at: int, *answer: Any) -> Deed:
    return deed("look", at, answer)


CLAIMED = claim(10, "x", 1)
DONE = deed("succeed", 20, ("completed",), "x", 1)


@pytest.mark.parametrize(
    "told",
    [
        [],
        [CLAIMED, DONE, look(30, "completed", 1, 1, "")],
        [CLAIMED, DONE, deed("retry", 30, ("available",), run=1), claim(40, "y", 2, 2)],
        [CLAIMED, deed("cancel", 20, ("running", 0, 0, "x")), deed("fail", 30, ("cancelled",), "x", 1)],
        [CLAIMED, deed("cancel", 20, ("running", 0, 0, "x")), deed("succeed", 30, ("completed",), "x", 1)],
        [
            CLAIMED,
            deed("expire", 20, ("available",), "x"),
            claim(30, "y", 2),
            deed("succeed", 40, ("lost:running", 0, 2, "y"), "x", 1),
        ],
        [CLAIMED, deed("release", 20, ("available",), "x", 1), claim(30, "x", 2)],
        [deed("cancel", 10, ("cancelled",)), deed("cancel", 20, ("refused:cancelled",)), look(30, "cancelled", 1, 0, "")],
        [CLAIMED, DONE, deed("retry", 30, ("available",), run=1), deed("retry", 40, ("refused:available",), run=1)],
        [deed("expire", 10, ("none",), "x"), CLAIMED],
    ],
)
def test_what_is_in_order(told: Sequence[Deed]):
    assert not contest.faults(told)


def test_what_overlaps_may_have_been_in_any_order():
    assert not contest.faults([claim(10, "y", 2, end=90), claim(10, "x", 1, end=90), deed("release", 15, ("available",), "x", 1)])


def test_what_nobody_knows_happened_or_did_not_or_happened_late():
    unknown = msgspec.structs.replace(DONE, answer=None)
    assert not contest.faults([CLAIMED, unknown, look(30, "completed", 1, 1, "")])
    assert not contest.faults([CLAIMED, unknown, look(30, "running", 1, 1, "x")])
    assert not contest.faults([CLAIMED, unknown, look(30, "running", 1, 1, "x"), look(50, "completed", 1, 1, "")])
    assert contest.faults([CLAIMED, unknown, look(30, "completed", 1, 1, ""), look(50, "running", 1, 1, "x")])


@pytest.mark.parametrize(
    "told",
    [
        pytest.param([CLAIMED, claim(20, "y", 1)], id="one fence was given twice"),
        pytest.param([CLAIMED, claim(20, "y", 2)], id="a running job was claimed"),
        pytest.param([CLAIMED, DONE, claim(30, "y", 2)], id="a finished job was claimed"),
        pytest.param([CLAIMED, DONE, deed("fail", 30, ("discarded",), "x", 1)], id="two ends of one claim"),
        pytest.param(
            [CLAIMED, deed("expire", 20, ("available",), "x"), msgspec.structs.replace(DONE, begin=30, end=35)],
            id="an end after the expiry",
        ),
        pytest.param(
            [
                CLAIMED,
                deed("expire", 20, ("available",), "x"),
                claim(30, "y", 2),
                msgspec.structs.replace(DONE, begin=40, end=45),
            ],
            id="an end that another's claim was in the way of",
        ),
        pytest.param([CLAIMED, DONE, look(30, "running", 1, 1, "x")], id="a lost update"),
        pytest.param(
            [CLAIMED, deed("cancel", 20, ("running", 0, 0, "x")), deed("fail", 30, ("discarded",), "x", 1)],
            id="a cancel was forgotten",
        ),
        pytest.param(
            [CLAIMED, deed("cancel", 20, ("running", 0, 0, "x")), deed("release", 30, ("available",), "x", 1)],
            id="a cancelled one was handed back",
        ),
        pytest.param([deed("cancel", 10, ("cancelled",)), claim(20, "x", 1)], id="a cancelled one was claimed"),
        pytest.param(
            [CLAIMED, DONE, deed("retry", 30, ("available",), run=1), deed("retry", 32, ("available",), run=1)],
            id="two runs from one retry",
        ),
        pytest.param([CLAIMED, DONE, deed("retry", 30, ("available",)), claim(40, "y", 2, 1)], id="a retry that began no run"),
        pytest.param([CLAIMED, DONE, deed("retry", 30, ("available",)), claim(40, "y", 1, 2)], id="a fence that fell"),
        pytest.param([CLAIMED, deed("expire", 20, ("none",), "x")], id="a claim that was not found"),
        pytest.param([CLAIMED, deed("succeed", 20, ("lost:running", 0, 1, "x"), "x", 1)], id="an owner who was refused"),
        pytest.param([CLAIMED, look(20, "available", 1, 0, "")], id="a stale read"),
    ],
)
def test_what_is_not(told: Sequence[Deed]):
    assert len(contest.faults(told)) == 1


def test_a_long_history_and_one_forged_answer_in_it():
    told = _played(random.Random(7), 3000)
    assert not contest.faults(told)
    ends = [index for index, each in enumerate(told) if each.verb == "succeed"]
    forged = told.copy()
    forged[ends[-1]] = msgspec.structs.replace(told[ends[-1]], answer=("lost:running", 0, 1, "z"))
    assert len(contest.faults(forged)) == 1


def _played(chance: random.Random, deeds: int) -> list[Deed]:
    """What three nodes would be told by a store in order, each deed overlapping its neighbours."""
    state, told = contest.State(), []
    for index in range(deeds):
        verb: contest.Verb = chance.choice(("claim", "succeed", "fail", "release", "expire", "cancel", "retry"))
        node, fence = chance.choice("xyz"), state.fence
        if verb in ("succeed", "fail", "release") and chance.random() < 0.7:
            node = state.node
        asked = Deed(verb=verb, job="a", node=node, fence=fence, begin=index * 10 - 12, end=index * 10 + 12, answer=None)
        made, answer = contest.EFFECTS[verb](state, asked)
        if not (verb == "claim" and answer[0] == "none"):  # Of those that a claim did not take, nobody is told.
            told.append(msgspec.structs.replace(asked, answer=answer))
        state = made
    return told
