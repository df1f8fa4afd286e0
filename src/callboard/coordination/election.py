"""Who may hold an office, and when: values in, values out. Sessions and timers are `presence`'s.

An office is `LABEL.GROUP`. Who stands for it keeps an entry `candidates/LABEL.GROUP.ORDER.INCARNATION`; the best one (lowest
order, then incarnation) creates `active/LABEL.GROUP`, whose number is the epoch. Both are ephemeral. Whoever is deposed leaves a
lasting mark `deposed/LABEL.GROUP`: its session lives, so it may go on accepting until its own clock tells it to stop. The mark
makes the successor wait for as long, or until the deposed one has removed it, or until its session is gone. An entry and a mark
are never there at the same time.

A frozen favourite does not block the others: each candidate behind it waits its turn, then takes the office. It is preferred
again once it shows that it lives, by standing anew: only those who stood up after the office was taken are handed it.

Who steps back stands with a higher order from then on. A holder that did so hands over: its entry goes behind the others' in the
very step that leaves the office vacant.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from callboard import errors
from callboard.coordination import engine as seam
from callboard.kit import grammar

CANDIDATES: Final = "candidates"
ACTIVE: Final = "active"
DEPOSED: Final = "deposed"
MAX_ORDER: Final = 999_999
SAFE_SHARE: Final = 2 / 3
"""The part of the granted session time for which an office is exercised after its last confirmation was sent; the rest is for
clocks that do not run alike."""
DEPOSED_SHARE: Final = 0.7
"""The part of the granted session time that a successor lets pass after a deposition: a little more than SAFE_SHARE, for the
same reason."""
TURN_SHARE: Final = 1 / 3
"""The part of the granted session time after which a vacant office is the next candidate's to take."""


class Bid(msgspec.Struct, frozen=True):
    """What a candidate's entry says."""

    incarnation: str
    order: int
    session: str
    granted_seconds: float


class Mark(msgspec.Struct, frozen=True):
    """What the mark of a deposition says: who held which epoch, and how long it may believe that it still does."""

    epoch: int
    session: str
    granted_seconds: float


class Candidate(msgspec.Struct, frozen=True):
    """One who stands: its bid, and its entry."""

    bid: Bid
    path: str
    number: int

    @property
    def rank(self) -> tuple[int, str]:
        return self.bid.order, self.bid.incarnation


class View(msgspec.Struct, frozen=True):
    """What one observer read about one office. Parts may be of different moments: operations guard what was decided by it."""

    candidates: tuple[Candidate, ...] = ()
    """The best first."""
    active: seam.Entry | None = None
    mark: tuple[Mark, int] | None = None
    """The mark, and the number of its entry."""
    sessions: frozenset[str] = frozenset()
    """Who lives; looked up only where there is a mark."""


class Me(msgspec.Struct, frozen=True):
    """The instance that decides."""

    office: str
    bid: Bid
    body: bytes
    """What its `active` entry would say."""
    preempt: bool = True
    epoch: int = 0
    """What it holds, to its own knowledge; 0 once it has stopped accepting."""
    stands_from: int = 0
    """It does not stand before this time, and gives up what it has."""

    @property
    def path(self) -> str:
        return f"{CANDIDATES}/{self.office}.{self.bid.order:06}.{self.bid.incarnation}"


class Vacancy(msgspec.Struct, frozen=True):
    """What an observer remembers: since when it sees the office vacant, and under which mark (0: none, -1: it is not vacant)."""

    mark: int = -1
    since: int = 0


class Wait(msgspec.Struct, frozen=True):
    """Nothing to do until something changes, or until a time (CLOCK_BOOTTIME, nanoseconds)."""

    until: int | None = None


class Apply(msgspec.Struct, frozen=True):
    """Apply these, then look again: to stand, or to say that one has stopped."""

    operations: tuple[seam.Operation, ...]
    deposed: bool = False
    """Whether this acknowledges a deposition."""


class Take(msgspec.Struct, frozen=True):
    """Take the office by these; the last result is the epoch."""

    operations: tuple[seam.Operation, ...]


class HandOver(msgspec.Struct, frozen=True):
    """Stop accepting, then apply these."""

    operations: tuple[seam.Operation, ...]


class Lost(msgspec.Struct, frozen=True):
    """The office is not one's own any more: stop accepting at once."""


Action = Wait | Apply | Take | HandOver | Lost


def office(label: str, group: str) -> str:
    """Return the name of an office. Raises InvalidName."""
    return f"{grammar.check_label(label, 'service')}.{grammar.check_label(group, 'group')}"


def view(
    office: str,
    candidates: Iterable[seam.Entry],
    active: Iterable[seam.Entry],
    marks: Iterable[seam.Entry],
    sessions: Iterable[str] = (),
) -> View:
    """Make a view of one office from entries of the three folders, which may hold others' as well."""
    standing = [_candidate(each) for each in candidates if each.name.startswith(f"{office}.")]
    holder = next((each for each in active if each.name == office), None)
    mark = next((each for each in marks if each.name == office), None)
    return View(
        tuple(sorted((each for each in standing if each is not None), key=lambda each: each.rank)),
        holder,
        None if mark is None else (_mark(mark), mark.number),
        frozenset(sessions),
    )


def candidates(entries: Iterable[seam.Entry]) -> dict[str, list[Candidate]]:
    """Return who stands for which office, the best first, from the entries of the folder of candidates."""
    found: dict[str, list[Candidate]] = {}
    for entry in entries:
        if (candidate := _candidate(entry)) is not None:
            found.setdefault(office_of(entry), []).append(candidate)
    return {office: sorted(standing, key=lambda each: each.rank) for office, standing in found.items()}


def office_of(entry: seam.Entry) -> str:
    """Return which office an entry is about, whichever of the three folders it is in."""
    return ".".join(entry.name.split(".", 2)[:2])


def look(before: Vacancy, seen: View, now: int) -> Vacancy:
    """Return what the observer remembers after a view."""
    mark = -1 if seen.active is not None else seen.mark[1] if seen.mark is not None else 0
    return before if mark == before.mark else Vacancy(mark, now)


def decide(seen: View, me: Me, vacancy: Vacancy, now: int) -> Action:
    """Decide what to do next. `vacancy` is what `look` made of this view; `now` is the observer's CLOCK_BOOTTIME.

    For one who is CONNECTED; who is not only keeps what it holds, until its confirmation is too old.
    """
    mine = [each for each in seen.candidates if each.bid.session == me.bid.session]
    own = next((each for each in mine if each.path == me.path), None)
    holds = seen.active is not None and seen.active.session == me.bid.session
    if me.epoch and (not holds or seen.active is None or seen.active.number != me.epoch):
        return Lost()
    if not me.epoch and seen.mark is not None and seen.mark[0].session == me.bid.session:
        return Apply((seam.Remove(f"{DEPOSED}/{me.office}", seen.mark[1]),), deposed=True)
    if now < me.stands_from:
        entries = [seam.Remove(each.path, each.number) for each in mine]
        if seen.active is not None and holds:
            entries.insert(0, seam.Remove(seen.active.path, seen.active.number))
        return HandOver(tuple(entries)) if entries else Wait(me.stands_from)
    if own is None:
        return _stand(seen.active if holds else None, mine, me)
    if seen.active is None:
        return _vacant(seen, me, own, vacancy, now)
    return _held(seen.active, seen, me, own)


def _stand(held: seam.Entry | None, before: Sequence[Candidate], me: Me) -> Action:
    """Stand for the first time, or further back than before: then what is held goes to the next one."""
    stands = seam.Create(me.path, encode(me.bid))
    removed = [seam.Remove(each.path, each.number) for each in before]
    if held is None or not before:
        return Apply((*removed, stands))
    return HandOver((seam.Remove(held.path, held.number), *removed, stands))


def _held(active: seam.Entry, seen: View, me: Me, own: Candidate) -> Action:
    if active.session == me.bid.session:
        wanted = me.preempt and any(each.rank < own.rank and each.number > active.number for each in seen.candidates)
        if wanted or active.body != me.body:
            return HandOver((seam.Remove(active.path, active.number),))
        # Taken before, with an answer that was lost: a confirmation makes it true.
        return Wait() if me.epoch else Take((seam.Check(active.path, active.number),))
    holder = next((each for each in seen.candidates if each.bid.session == active.session), None)
    if me.preempt and holder is not None and own.rank < holder.rank and own.number < active.number:
        again = seam.Create(me.path, encode(me.bid))
        return Apply((seam.Remove(own.path, own.number), again))
    return Wait()


def _vacant(seen: View, me: Me, own: Candidate, vacancy: Vacancy, now: int) -> Action:
    seconds = seen.candidates.index(own) * TURN_SHARE * me.bid.granted_seconds
    unmarked: seam.Operation = seam.Absent(f"{DEPOSED}/{me.office}")
    if seen.mark is not None:
        mark, number = seen.mark
        unmarked = seam.Remove(f"{DEPOSED}/{me.office}", number)
        if mark.session in seen.sessions or not mark.session:
            seconds += DEPOSED_SHARE * (mark.granted_seconds or me.bid.granted_seconds)
    ripe = vacancy.since + round(seconds * 1e9)
    if now < ripe:
        return Wait(ripe)
    path = f"{ACTIVE}/{me.office}"
    return Take((seam.Absent(path), seam.Check(own.path, own.number), unmarked, seam.Create(path, me.body)))


def deposition(seen: View, office: str, epoch: int, granted_seconds: float) -> Sequence[seam.Operation]:
    """Return what deposes the holder of an epoch: its entries go, a mark comes. `granted_seconds`: if its bid does not tell.

    Raises CoordinationConflict when that epoch is over.
    """
    active = seen.active
    path = f"{ACTIVE}/{office}"
    if active is None or active.number != epoch or active.session is None:
        raise errors.CoordinationConflict(f"epoch {epoch} of {office} is over: nobody is to be deposed", path=path, index=0)
    holder = next((each for each in seen.candidates if each.bid.session == active.session), None)
    granted = granted_seconds if holder is None else max(granted_seconds, holder.bid.granted_seconds)
    mark = encode(Mark(epoch, active.session, granted))
    standing = () if holder is None else (seam.Remove(holder.path, holder.number),)
    return [seam.Remove(path, epoch), *standing, seam.Create(f"{DEPOSED}/{office}", mark, lasting=True)]


async def depose(session: seam.Session, label: str, group: str, epoch: int) -> None:
    """Depose whoever holds an epoch of an office: it does not answer, though its session lives. The caller must be sure of that.

    Raises CoordinationConflict when the epoch is over (somebody was faster), CoordinationUnavailable.
    """
    name = office(label, group)
    seen = view(name, await session.entries(CANDIDATES), await session.entries(ACTIVE), ())
    await session.apply(deposition(seen, name, epoch, session.granted_seconds))


def _candidate(entry: seam.Entry) -> Candidate | None:
    """A candidate by its entry; None for one that makes no sense, or that does not belong to the session that it names."""
    try:
        bid = _bid(entry.body)
    except ValueError:  # Bytes that are no text are none of msgspec's errors.
        return None
    return Candidate(bid, entry.path, entry.number) if bid.session == entry.session else None


def _mark(entry: seam.Entry) -> Mark:
    """A mark by its entry; one that makes no sense is of somebody unknown, who may live."""
    try:
        return _marked(entry.body)
    except ValueError:
        return Mark(0, "", 0.0)


encode: Final = msgspec.json.Encoder().encode
"""Of bids and marks."""
_bid = msgspec.json.Decoder(Bid).decode
_marked = msgspec.json.Decoder(Mark).decode
