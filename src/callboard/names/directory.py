"""The book: who answers for a name now, from what coordination says. Pure; no clock, no connection.

It is given whole folders and says which *seats* changed. A seat is what changes hands as one: (label, group), however many
domains the group has; group "" is all instances of a label, and each exact one. Fed by the registry, asked through it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from callboard import errors
from callboard.coordination import election, engine
from callboard.kit import grammar
from callboard.names import groups, model, protocol
from callboard.rpc import network

Seat = tuple[str, str]
"""(label, group)."""

_facts = msgspec.json.Decoder(model.NodeFacts)
_office = msgspec.json.Decoder(model.Office)


class _Known(msgspec.Struct, frozen=True):
    """What the instances of a label say together."""

    active: model.Active
    idempotent: tuple[str, ...]
    conflict: str
    instances: tuple[network.Address, ...]

    @property
    def terms(self) -> tuple[str, tuple[str, ...], str]:
        return self.active, self.idempotent, self.conflict


class Held(msgspec.Struct, frozen=True):
    """An office and the epoch under which it is held."""

    office: model.Office
    epoch: int


class Directory:
    """Who answers. On one event loop; lookups are dict lookups, whatever the number of domains."""

    def __init__(self, grouping: groups.Groups) -> None:
        self.groups = grouping
        self._nodes: dict[str, tuple[bytes, model.NodeFacts]] = {}
        self._offices: dict[Seat, Held] = {}
        self._standing: Mapping[str, Sequence[election.Candidate]] = {}
        self._offers: dict[str, dict[str, tuple[network.Address, model.Offer]]] = {}
        self._known: dict[str, _Known] = {}
        self._silent: frozenset[str] = frozenset()
        self._answers: dict[Seat, model.Answer] = {}

    # Feeding.

    def nodes(self, entries: Iterable[engine.Entry]) -> set[Seat]:
        """Take the whole folder of nodes; return the seats that changed. Entries that make no sense count as absent."""
        old = self._nodes
        self._nodes = read = {}
        for entry in entries:
            same = old.get(entry.name)
            facts = same[1] if same is not None and same[0] == entry.body else _decoded(_facts, entry)
            if facts is not None and facts.incarnation == entry.name:
                read[entry.name] = (entry.body, facts)
        touched: set[str] = set()
        for incarnation in old.keys() | read.keys():
            before, after = old.get(incarnation), read.get(incarnation)
            if before is None or after is None or before[1] != after[1]:
                touched |= self._replace(before[1] if before else None, after[1] if after else None)
        return self._summed(touched)

    def offices(self, entries: Iterable[engine.Entry]) -> set[Seat]:
        """Take the whole folder of offices; return the seats that changed."""
        held: dict[Seat, Held] = {}
        for entry in entries:
            office = _decoded(_office, entry)
            if office is not None and model.office(office.label, office.group) == entry.name:
                held[office.label, office.group] = Held(office, entry.number)
        old, self._offices = self._offices, held
        return self._dropped({seat for seat in old.keys() | held.keys() if old.get(seat) != held.get(seat)})

    def candidates(self, entries: Iterable[engine.Entry]) -> set[Seat]:
        """Take the whole folder of those who stand for offices. No seat changes by that."""
        self._standing = election.candidates(entries)
        return set()

    def silence(self, incarnations: Collection[str]) -> set[Seat]:
        """Take the nodes that do not answer for now: they are named only where nobody else is. Return the seats that changed."""
        old, self._silent = self._silent, frozenset(incarnations)
        changed = old ^ self._silent
        seats = {(label, "") for label, offers in self._offers.items() if not changed.isdisjoint(offers)} if changed else set()
        return self._dropped(seats)

    def forget(self, label: str) -> set[Seat]:
        """Forget a label that has no instances any more: from now on it is unknown. Return the seats that changed."""
        if label in self._offers or self._known.pop(label, None) is None:
            return set()
        return self._dropped(self._seats(label))

    def _replace(self, before: model.NodeFacts | None, after: model.NodeFacts | None) -> set[str]:
        for offer in before.offers if before else ():
            self._offers[offer.label].pop(before.incarnation, None)  # type: ignore[union-attr]
        for offer in after.offers if after else ():
            self._offers.setdefault(offer.label, {})[after.incarnation] = (after.address, offer)  # type: ignore[union-attr]
        return {offer.label for facts in (before, after) if facts is not None for offer in facts.offers}

    def _summed(self, labels: set[str]) -> set[Seat]:
        seats: set[Seat] = set()
        for label in labels:
            before = self._known.get(label)
            offers = self._offers[label]
            if offers:
                after = _sum(label, offers)
            else:  # Known still, and nobody home: who asks may wait, until somebody is, or `forget`.
                del self._offers[label]
                after = _Known(before.active if before else "all", before.idempotent if before else (), "", ())
            if after == before:
                continue
            self._known[label] = after
            seats |= self._seats(label) if before is None or before.terms != after.terms else {(label, "")}
        return self._dropped(seats)

    def _seats(self, label: str) -> set[Seat]:
        return {(label, ""), *((label, group) for group in self.groups.offices_of(label))}

    def _dropped(self, seats: set[Seat]) -> set[Seat]:
        for seat in seats:
            self._answers.pop(seat, None)
        return seats

    # Asking.

    def lookup(self, name: model.Name) -> model.Answer:
        """Return who answers for a name. Raises UnknownName, DomainNotServed, InterfaceConflict."""
        if name.incarnation:
            return self._exact(name)
        known = self._known.get(name.label)
        if known is not None and known.active == "all":
            return self.answer((name.label, ""))
        return self.answer((name.label, self.groups.serving(name.label, name.domain)))

    def answer(self, seat: Seat) -> model.Answer:
        """Return who has a seat. Raises UnknownName, InterfaceConflict."""
        answer = self._answers.get(seat)
        if answer is None:
            answer = self._answers[seat] = self._summary(*seat)
        return answer

    def recipients(self, target: model.Target) -> list[network.Address]:
        """Return every node that hosts a role or a service, by incarnation. Raises UnknownName, InterfaceConflict (services)."""
        offers = self._offers.get(target.label, {})
        found = [address for address, offer in offers.values() if offer.kind == target.kind]
        if not found:
            raise _unknown(f"nobody alive has the {target.kind} {target.label}: 'callboard nodes' lists who has what")
        if target.kind == "service":
            self._agreeing(target.label)
        return sorted(found, key=lambda address: address.incarnation)

    def listing(self, prefix: str = "") -> list[protocol.Listed]:
        """Return every name that somebody answers, or would as soon as its office is taken; those that begin with a prefix.

        What every node has is no name to be listed.
        """
        listed = []
        for label in sorted(self._known.keys() - {protocol.NODE}):
            known = self._known[label]
            if known.active == "all":
                listed.append(self._listed(label, "", known.instances, ()))
                continue
            for group in self._groups_of(label):
                held = self._offices.get((label, group))
                active = () if held is None else (held.office.address,)
                standbys = self._standbys(label, group, held)
                if active or standbys:
                    listed.append(self._listed(label, group, active, standbys))
        return [each for each in listed if each.name.startswith(prefix) and (each.instances or each.standbys)]

    def _groups_of(self, label: str) -> Sequence[str]:
        """Return the groups in which somebody holds a label's office, or stands for it."""
        offices = {group for held, group in self._offices if held == label}
        standing = {name.partition(".")[2] for name in self._standing if name.partition(".")[0] == label}
        return sorted(offices | standing)

    def _listed(
        self, label: str, group: str, active: tuple[network.Address, ...], standbys: tuple[protocol.Standby, ...]
    ) -> protocol.Listed:
        known, held = self._known[label], self._offices.get((label, group))
        offers = self._offers.get(label, {})
        return protocol.Listed(
            name=self._name(label, group) if group else label,
            label=label,
            group=group,
            kind=next((offer.kind for _, offer in offers.values()), "service"),
            active=known.active,
            epoch=held.epoch if held is not None else 0,
            instances=active,
            standbys=standbys,
            conflict=known.conflict,
        )

    def _name(self, label: str, group: str) -> str:
        """Write a name that belongs to a group: the default domain's, if that is the group's."""
        try:
            if self.groups.serving(label, grammar.DEFAULT_DOMAIN) == group:
                return label
        except errors.DomainNotServed:
            pass
        return f"{label}@{self.groups.domain_of(label, group) or group}"

    def _standbys(self, label: str, group: str, held: Held | None) -> tuple[protocol.Standby, ...]:
        found = []
        for candidate in self._standing.get(model.office(label, group), ()):
            node = self._nodes.get(candidate.bid.incarnation)
            if node is not None and (held is None or held.office.incarnation != candidate.bid.incarnation):
                found.append(protocol.Standby(node[1].address, candidate.bid.order))
        return tuple(found)

    def held(self) -> Mapping[Seat, Held]:
        """Return the offices that are held. Not to be changed."""
        return self._offices

    def present(self) -> Sequence[model.NodeFacts]:
        """Return the nodes that are there."""
        return [facts for _, facts in self._nodes.values()]

    def vacant(self) -> set[str]:
        """Return the labels that are known and have no instance."""
        return self._known.keys() - self._offers.keys()

    def labels(self) -> Collection[str]:
        """Return the labels that are known, those without an instance too."""
        return self._known.keys()

    def _summary(self, label: str, group: str) -> model.Answer:
        held = self._offices.get((label, group))
        known = self._agreeing(label) if label in self._known or held is None else None
        idempotent = known.idempotent if known is not None else ()
        if known is not None and (known.active == "all") != (group == ""):
            raise _unknown(f"{label} has no seat {group or 'for all its instances'}: it is active={known.active!r}")
        if known is not None and known.active == "all":
            loud = tuple(each for each in known.instances if each.incarnation not in self._silent)
            return model.Answer(
                label=label, group="", active="all", epoch=0, instances=loud or known.instances, idempotent=idempotent
            )
        return model.Answer(
            label=label,
            group=group,
            active="one",
            epoch=held.epoch if held else 0,
            instances=(held.office.address,) if held else (),
            idempotent=idempotent,
        )

    def _exact(self, name: model.Name) -> model.Answer:
        found = self._offers.get(name.label, {}).get(name.incarnation)
        if found is None:
            raise _unknown(f"{name} is gone, or never was: ask any instance by {name.label}")
        address, offer = found
        group = self.groups.serving(name.label, name.domain) if offer.active == "one" else ""
        held = self._offices.get((name.label, group))
        epoch = held.epoch if held is not None and held.office.incarnation == name.incarnation else 0
        return model.Answer(
            label=name.label, group=group, active=offer.active, epoch=epoch, instances=(address,), idempotent=offer.idempotent
        )

    def _agreeing(self, label: str) -> _Known:
        known = self._known.get(label)
        if known is None:
            raise _unknown(f"nobody alive has a service or role named {label}: 'callboard nodes' lists who has what")
        if known.conflict:
            raise errors.InterfaceConflict(known.conflict, ran="no")
        return known


def _unknown(message: str) -> errors.UnknownName:
    return errors.UnknownName(message, ran="no")


def _sum(label: str, offers: Mapping[str, tuple[network.Address, model.Offer]]) -> _Known:
    first = min(offers)
    offer = offers[first][1]
    strange = sorted(incarnation for incarnation, (_, other) in offers.items() if other != offer)
    conflict = ""
    if strange:
        conflict = (
            f"nodes {first} and {strange[0]} declare different interfaces for {label}: give one of the two services another name,"
            " or run the same program everywhere"
        )
    instances = tuple(offers[incarnation][0] for incarnation in sorted(offers))
    return _Known(offer.active, offer.idempotent, conflict, instances)


def _decoded(decoder: msgspec.json.Decoder[Any], entry: engine.Entry) -> Any:
    try:
        return decoder.decode(entry.body)
    except ValueError:  # Bytes that are no text are none of msgspec's errors.
        return None
