"""What a resolver remembers: names, each pointing to the seat that answers for it, and the seats' answers. Pure.

Ten thousand names of one group point to one seat: when it changes hands, one answer is replaced. A seat without an answer must
be asked for again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable, Mapping
from typing import Final

from callboard.kit import grammar
from callboard.names import model
from callboard.rpc import network

Key = str | tuple[str, str]
"""A name as the caller wrote it; with the domain that was meant, unless that is the default one."""
MOST_NAMES: Final = 1 << 17
_FEW_NAMES: Final = MOST_NAMES - MOST_NAMES // 8


def key(name: str, domain: str) -> Key:
    return name if domain == grammar.DEFAULT_DOMAIN else (name, domain)


class Seat:
    """Whoever answers for a label in a group (or one exact instance), as far as is known."""

    __slots__ = ("answer", "group", "incarnation", "label", "turn", "waiting")

    def __init__(self, label: str, group: str, incarnation: str) -> None:
        self.label = label
        self.group = group
        self.incarnation = incarnation
        self.answer: model.Answer | None = None
        self.turn = 0
        self.waiting: set[asyncio.Future[None]] = set()

    def fill(self, answer: model.Answer | None) -> None:
        """Take a new answer, or none; whoever waits for one goes on."""
        self.answer = answer
        for waiting in self.waiting:
            if not waiting.done():
                waiting.set_result(None)
        self.waiting.clear()

    def next(self, dead: Container[str], tried: Container[str] = ()) -> network.Address | None:
        """Return the instance whose turn it is, but none that was tried; a dead one only when there is no other."""
        instances = self.answer.instances if self.answer is not None else ()
        second = None
        for _ in instances:
            self.turn = (self.turn + 1) % len(instances)
            address = instances[self.turn]
            if address.incarnation in tried:
                continue
            if address.incarnation not in dead:
                return address
            second = second or address
        return second


class Cache:
    """Names and seats. `names` is read by the resolver's hot path."""

    def __init__(self) -> None:
        self.names: dict[Key, tuple[Seat, str]] = {}
        """The seat of a name, and its domain."""
        self._seats: dict[tuple[str, str, str], Seat] = {}
        self._exact: dict[str, set[Seat]] = {}
        self._loose: set[Seat] = set()

    def remember(self, key: Key, name: model.Name, answer: model.Answer, *, kept: bool) -> Seat:
        """Note who answers for a name. `kept`: a registry tells when it changes; else it holds until `drop_loose`."""
        seat = self._seat(answer.label, answer.group, name.incarnation)
        seat.fill(answer)
        if kept:
            self._loose.discard(seat)
        else:
            self._loose.add(seat)
        if len(self.names) >= MOST_NAMES and key not in self.names:
            for old in list(self.names)[: len(self.names) - _FEW_NAMES]:
                del self.names[old]
        self.names[key] = (seat, name.domain)
        return seat

    def change(self, seats: Iterable[tuple[str, str]], answers: Iterable[model.Answer]) -> None:
        """Take what a registry pushed: new answers of seats, and seats that have none any more."""
        found = {(answer.label, answer.group): answer for answer in answers}
        for label, group in seats:
            seat = self._seats.get((label, group, ""))
            if seat is not None:
                seat.fill(found.get((label, group)))
            for exact in self._exact.pop(label, ()):
                exact.fill(None)
                self._loose.discard(exact)
                del self._seats[label, exact.group, exact.incarnation]

    def seats(self) -> list[tuple[str, str]]:
        """Return the seats that are remembered, exact instances aside."""
        return [(label, group) for label, group, incarnation in self._seats if not incarnation]

    def drop_loose(self) -> None:
        """Forget the answers that nobody keeps true."""
        for seat in self._loose:
            seat.fill(None)
        self._loose.clear()

    def clear(self) -> None:
        """Forget everything."""
        for seat in self._seats.values():
            seat.fill(None)
        for book in (self.names, self._seats, self._exact):
            book.clear()
        self._loose.clear()

    def facts(self) -> Mapping[str, int]:
        """Return how much is remembered."""
        return {"names": len(self.names), "seats": len(self._seats)}

    def _seat(self, label: str, group: str, incarnation: str) -> Seat:
        seat = self._seats.get((label, group, incarnation))
        if seat is None:
            seat = self._seats[label, group, incarnation] = Seat(label, group, incarnation)
            if incarnation:
                self._exact.setdefault(label, set()).add(seat)
        return seat
