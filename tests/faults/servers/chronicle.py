"""What clients of three servers saw, as lines of JSON, and the judge of it. Pure but for `Chronicle`.

What handlers did is judged by `history`, what services accepted by `epochs`; here it is what was told to those outside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")


class Acknowledged(msgspec.Struct, frozen=True, kw_only=True, tag="acknowledged"):
    """A job was taken. Times, here and below, are CLOCK_BOOTTIME in nanoseconds."""

    id: str
    asked: int
    at: int
    created: bool
    """By the try that was answered; a try before it may have been."""


class Answered(msgspec.Struct, frozen=True, kw_only=True, tag="answered"):
    """A call of a service was answered."""

    name: str
    pid: int
    epoch: int
    asked: int
    at: int
    mark: str = ""
    """Of a call that must not run twice."""


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """A call ended with an error."""

    name: str
    code: str
    ran: str
    """Whether the method was begun, as the caller was told: `no`, `unknown`."""
    asked: int
    at: int
    mark: str = ""


class Term(msgspec.Struct, frozen=True, kw_only=True, tag="term"):
    """The store was asked who has the office of a scope."""

    scope: str
    number: int
    incarnation: str
    at: int


Event = Acknowledged | Answered | Failed | Term


class Chronicle:
    """The events so far, in memory and in a file."""

    def __init__(self, file: Path) -> None:
        self.events: list[Event] = []
        self._file = file

    def note(self, event: Event) -> None:
        self.events.append(event)
        with self._file.open("ab") as open_:
            open_.write(msgspec.json.encode(event) + b"\n")

    def of(self, kind: type[T]) -> list[T]:
        """Return the events of one sort."""
        return [event for event in self.events if isinstance(event, kind)]


def read(file: Path) -> list[Event]:
    """Return the events in a file."""
    return [msgspec.json.decode(line, type=Event) for line in file.read_bytes().splitlines()]


def faults(events: Collection[Event], ran: Iterable[str]) -> dict[str, list[str]]:
    """Return a sentence for each fault, by its sort. `ran` are the marks of calls, once for each time that one ran."""
    answered = sorted((event for event in events if isinstance(event, Answered)), key=lambda event: event.asked)
    found = {
        "made twice": _made_twice(events),
        "went back": [fault for name in {each.name for each in answered} for fault in _went_back(name, answered)],
        "two of one epoch": _two_of_one_epoch(answered),
        "ran wrongly": _ran_wrongly(events, Counter(ran)),
        "terms": _terms([event for event in events if isinstance(event, Term)]),
    }
    return {sort: sentences for sort, sentences in found.items() if sentences}


def _made_twice(events: Iterable[Event]) -> list[str]:
    made = Counter(event.id for event in events if isinstance(event, Acknowledged) and event.created)
    return [f"{id} was made {times} times" for id, times in made.items() if times > 1]


def _went_back(name: str, answered: Sequence[Answered]) -> Iterable[str]:
    """Who asks after somebody was answered under an epoch must not be answered under one before it."""
    mine = [each for each in answered if each.name == name]
    ended = sorted(mine, key=lambda each: each.at)
    highest, known = 0, 0
    for each in mine:
        while known < len(ended) and ended[known].at < each.asked:
            highest = max(highest, ended[known].epoch)
            known += 1
        if each.epoch < highest:
            yield f"{name}: asked after an answer under {highest}, answered under {each.epoch}"


def _two_of_one_epoch(answered: Iterable[Answered]) -> list[str]:
    who: dict[tuple[str, int], set[int]] = {}
    for each in answered:
        who.setdefault((each.name, each.epoch), set()).add(each.pid)
    return [f"{name}: {sorted(pids)} answered under {epoch}" for (name, epoch), pids in who.items() if len(pids) > 1]


def _ran_wrongly(events: Iterable[Event], ran: Counter[str]) -> list[str]:
    """An answered call ran once, a refused one never, and one of which nobody knows at most once."""
    found = []
    for event in events:
        if isinstance(event, Answered) and event.mark and ran[event.mark] != 1:
            found.append(f"{event.mark} was answered and ran {ran[event.mark]} times")
        if isinstance(event, Failed) and event.mark and ran[event.mark] > (event.ran != "no"):
            found.append(f"{event.mark} failed ({event.code}, ran: {event.ran}) and ran {ran[event.mark]} times")
    return found


def _terms(seen: Iterable[Term]) -> list[str]:
    """Their numbers grow, and each is one holder's."""
    found, latest = [], {}
    for term in sorted(seen, key=lambda term: term.at):
        before = latest.get(term.scope, term)
        if term.number < before.number:
            found.append(f"{term.scope}: {term.number} came after {before.number}")
        if term.number == before.number and term.incarnation != before.incarnation:
            found.append(f"{term.scope}: {term.number} was of {before.incarnation} and of {term.incarnation}")
        latest[term.scope] = term
    return found
