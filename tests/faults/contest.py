"""Judges a contest for a few jobs: whether one order of all operations explains every answer. Pure; `contestant` writes it down.

Each operation took effect at one moment between its begin and its end, or nobody knows whether it did, and then at any moment
after its begin, or never. If no order of such moments gives all the answers that were given, the store has broken a promise:
two claims got one fence, an end was accepted from one who had lost the job, a wish was forgotten, a retry counted twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

NEVER = 1 << 62
"""The end of what may yet happen."""
TERMINAL = frozenset({"completed", "discarded", "cancelled"})
MAX_DEATHS = 3

Verb = Literal["claim", "succeed", "fail", "release", "expire", "cancel", "retry", "look"]


class State(msgspec.Struct, frozen=True, order=True):
    """What a job is, as far as operations depend on it. It begins as submitted."""

    word: str = "available"
    run: int = 1
    fence: int = 0
    node: str = ""
    wished: bool = False
    deaths: int = 0


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """An operation on one job, and its answer. Times are of one clock."""

    verb: Verb
    job: str
    node: str = ""
    """Who claims, ends, releases; whose claims are expired."""
    fence: int = 0
    """Of the claim that is ended or released."""
    run: int | None = None
    """The run that is to be retried; None: whichever."""
    begin: int
    end: int
    answer: tuple[str, int, int, str] | None
    """What was answered; None when nobody knows. Its parts are (word, run, fence, node), for each verb those that it tells:

    claim: `running`, run, fence, node. succeed, fail, release: the state written, or `lost` … the state found, as `lost:STATE`,
    with fence and node. expire: the state written, or `none` when the job was not theirs. cancel, retry: the state, or
    `refused:STATE`. look: all.
    """


def faults(deeds: Iterable[Deed]) -> list[str]:
    """Return, for each job that no order explains, what could not be explained."""
    told: dict[str, list[Deed]] = {}
    for deed in deeds:
        told.setdefault(deed.job, []).append(deed)
    return [fault for job, mine in sorted(told.items()) if (fault := _unexplained(job, mine))]


def after(state: State, deed: Deed) -> State | None:
    """Return the job after a deed, None if the deed's answer cannot have been given to one in this state."""
    if deed.verb == "look":
        seen = (state.word, state.run, state.fence, state.node)
        return state if deed.answer in (None, seen) else None
    made, answer = EFFECTS[deed.verb](state, deed)
    return made if deed.answer in (None, answer) else None


Effect = tuple[State, tuple[str, int, int, str]]


def _claim(state: State, deed: Deed) -> Effect:
    if state.word != "available":
        return state, ("none", 0, 0, "")
    taken = msgspec.structs.replace(state, word="running", fence=state.fence + 1, node=deed.node)
    return taken, ("running", taken.run, taken.fence, taken.node)


def _ended(state: State, deed: Deed) -> Effect:
    if state.word != "running" or (state.node, state.fence) != (deed.node, deed.fence):
        return state, (f"lost:{state.word}", 0, state.fence, state.node)
    word = {"succeed": "completed", "fail": "discarded", "release": "available"}[deed.verb]
    return _given_up(state, "cancelled" if state.wished and deed.verb != "succeed" else word, state.deaths)


def _expire(state: State, deed: Deed) -> Effect:
    if state.word != "running" or state.node != deed.node:
        return state, ("none", 0, 0, "")
    deaths = state.deaths + 1
    return _given_up(state, "cancelled" if state.wished else "available" if deaths < MAX_DEATHS else "discarded", deaths)


def _given_up(state: State, word: str, deaths: int) -> Effect:
    return msgspec.structs.replace(state, word=word, node="", wished=False, deaths=deaths), (word, 0, 0, "")


def _cancel(state: State, deed: Deed) -> Effect:
    if state.word in TERMINAL:
        return state, (f"refused:{state.word}", 0, 0, "")
    if state.word == "running":
        return msgspec.structs.replace(state, wished=True), ("running", 0, 0, state.node)
    return msgspec.structs.replace(state, word="cancelled"), ("cancelled", 0, 0, "")


def _retry(state: State, deed: Deed) -> Effect:
    if state.word not in TERMINAL or deed.run not in (None, state.run):
        return state, (f"refused:{state.word}", 0, 0, "")
    return msgspec.structs.replace(state, word="available", run=state.run + 1, deaths=0), ("available", 0, 0, "")


EFFECTS = {
    "claim": _claim,
    "succeed": _ended,
    "fail": _ended,
    "release": _ended,
    "expire": _expire,
    "cancel": _cancel,
    "retry": _retry,
}


class _Place(msgspec.Struct, frozen=True):
    """How far an order has come: all deeds before `first` and those in `beyond` are in it, and have made the job so."""

    first: int
    beyond: frozenset[int]
    state: State


def _unexplained(job: str, told: Sequence[Deed]) -> str | None:
    """Look for an order, the deeds by their begin, going back where it ends blindly."""
    deeds = sorted(told, key=lambda deed: (deed.begin, deed.end))
    ends = [deed.end if deed.answer is not None else NEVER for deed in deeds]
    start = _Place(0, frozenset(), State())
    seen, stack, furthest = {start}, [start], start
    while stack:
        place = stack.pop()
        furthest = max(furthest, place, key=lambda each: each.first + len(each.beyond))
        left = _left(place, deeds, ends)
        if all(deeds[index].answer is None for index in left):
            return None
        for index in reversed(left):
            made = after(place.state, deeds[index])
            if made is not None and (following := _with(place, index, made)) not in seen:
                seen.add(following)
                stack.append(following)
    stuck = [deeds[index] for index in _left(furthest, deeds, ends)]
    return f"{job}: after {furthest.first} deeds it was {furthest.state}, and nothing explains {stuck[:4]}"


def _left(place: _Place, deeds: Sequence[Deed], ends: Sequence[int]) -> list[int]:
    """Return the deeds that may come next: begun before any other that is left has ended."""
    found: list[int] = []
    bound = NEVER + 1
    for index in range(place.first, len(deeds)):
        if deeds[index].begin > bound:
            break
        if index not in place.beyond:
            found.append(index)
            bound = min(bound, ends[index])
    return [index for index in found if deeds[index].begin <= bound]


def _with(place: _Place, index: int, state: State) -> _Place:
    first, beyond = place.first, place.beyond | {index}
    while first in beyond:
        beyond -= {first}
        first += 1
    return _Place(first, beyond, state)
