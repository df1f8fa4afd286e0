"""From the entries in coordination to the facts of the cluster view. Pure: folders in, facts out.

Entries that make no sense count as absent, and so do those of other sites.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from callboard.cluster import view
from callboard.coordination import engine
from callboard.names import model, protocol

FOLDERS = (model.ACTIVE, model.NODES, model.SERVERS)
"""What is read; who holds offices first, so that who leaves both is missed in neither."""
_decoders: Mapping[str, msgspec.json.Decoder[Any]] = {
    model.SERVERS: msgspec.json.Decoder(model.ServerFacts),
    model.NODES: msgspec.json.Decoder(model.NodeFacts),
    model.ACTIVE: msgspec.json.Decoder(model.Office),
}


class Gathering:
    """The folders as they were read last. What has not changed is not read again."""

    def __init__(self, site: str) -> None:
        self._site = site
        self._read: dict[str, dict[str, tuple[engine.Entry, Any]]] = {folder: {} for folder in FOLDERS}

    def take(self, folder: str, entries: Iterable[engine.Entry]) -> None:
        """Take a whole folder."""
        old, new = self._read[folder], {}
        for entry in entries:
            same = old.get(entry.name)
            fact = same[1] if same is not None and same[0] == entry else self._decoded(folder, entry)
            if fact is not None:
                new[entry.name] = (entry, fact)
        self._read[folder] = new

    def facts(self) -> view.Facts:
        """Return what there is."""
        servers = {name: fact for name, (_, fact) in self._read[model.SERVERS].items()}
        leaving = _leaving(servers.values())
        nodes = {name: _node(fact, leaving) for name, (_, fact) in self._read[model.NODES].items()}
        offices = {name: _office(fact, entry.number) for name, (entry, fact) in self._read[model.ACTIVE].items()}
        return view.Facts(servers, nodes, offices)

    def _decoded(self, folder: str, entry: engine.Entry) -> Any:
        try:
            fact = _decoders[folder].decode(entry.body)
        except ValueError:  # Bytes that are no text are none of msgspec's errors.
            return None
        return fact if fact.site == self._site and _name(fact) == entry.name else None


def _name(fact: Any) -> str:
    match fact:
        case model.ServerFacts():
            return fact.agent
        case model.NodeFacts():
            return fact.incarnation
    return model.office(fact.label, fact.group)


def _leaving(servers: Iterable[model.ServerFacts]) -> set[str]:
    """Return the servers that take no work: of an agent that died and the next one, both may be there for a moment."""
    serving = {facts.server for facts in servers if facts.state == "serving"}
    return {facts.server for facts in servers} - serving


def _node(facts: model.NodeFacts, leaving: set[str]) -> view.Node:
    roles = [offer.label for offer in facts.offers if offer.kind == "role" and offer.label != protocol.NODE]
    return view.Node(
        incarnation=facts.incarnation,
        server=facts.server,
        site=facts.site,
        host=facts.host,
        port=facts.port,
        roles=tuple(sorted(roles)),
        services=tuple(sorted(offer.label for offer in facts.offers if offer.kind == "service")),
        available=facts.state == "serving" and facts.server not in leaving,
    )


def _office(facts: model.Office, epoch: int) -> view.Office:
    return view.Office(
        label=facts.label,
        group=facts.group,
        epoch=epoch,
        incarnation=facts.incarnation,
        server=facts.server,
        site=facts.site,
    )
