"""What every node says of itself, at the label `node`: that its loop moves, what it answers for, who it is connected to.

Registries ping it and resolvers fall back to it when there is no registry. It knows its node's table and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import msgspec

from callboard import errors
from callboard.app import exposure
from callboard.kit import grammar
from callboard.names import groups, model, protocol
from callboard.roles import role
from callboard.rpc import peers, serving


class NodeItself(role.Role):
    """The role that every node hosts. `offers` returns what the node's entry says of its roles and services."""

    name: ClassVar[str] = protocol.NODE

    def __init__(self, wire: peers.Peers, grouping: groups.Groups, offers: Callable[[], Sequence[model.Offer]]) -> None:
        super().__init__()
        self._wire = wire
        self._groups = grouping
        self._offers = offers
        self._methods = exposure.methods(self)

    @property
    def methods(self) -> dict[str, serving.Method]:
        return self._methods

    @exposure.method(idempotent=True)
    async def ping(self, label: str = "", group: str = "", epoch: int = 0) -> Mapping[str, Any]:
        """Answer that this node's loop moves, and how it is with an office: a `protocol.Pong`, and what every role says."""
        pong = protocol.Pong(self._wire.identity.incarnation, self._office(label, group, epoch) if label else "")
        return {**await super().ping(), **msgspec.structs.asdict(pong)}

    @exposure.method(idempotent=True)
    async def serves(self, name: str) -> model.Answer:
        """Answer for a name, if it is answered here. Raises UnknownName, DomainNotServed, NotActive, LeaseUnconfirmed."""
        asked = model.parse(name)
        offer = next((each for each in self._offers() if each.label == asked.label), None)
        served = self._wire.table.find(asked.label)
        here = self._wire.identity.incarnation
        if offer is None or served is None or asked.incarnation not in ("", here):
            raise errors.UnknownName(f"{name} is not at node {here}", ran="no")
        group = self._groups.of(asked.domain) if offer.active == "one" else ""
        epoch = served.admit(asked.domain, 0)
        return model.Answer(
            label=asked.label,
            group=group,
            active=offer.active,
            epoch=epoch,
            instances=(self._wire.address,),
            idempotent=offer.idempotent,
        )

    @exposure.method(idempotent=True)
    async def offers(self) -> list[model.Offer]:
        """Return what this node has methods for."""
        return list(self._offers())

    @exposure.method(idempotent=True)
    async def connections(self) -> list[dict[str, Any]]:
        """Return facts of the open connections to other nodes."""
        return self._wire.connections()

    def _office(self, label: str, group: str, epoch: int) -> Literal["held", "waiting", "absent"]:
        served = self._wire.table.find(label)
        if served is None:
            return "absent"
        domain = self._groups.domain_of(group) if group else grammar.DEFAULT_DOMAIN
        try:
            return "held" if domain is not None and served.admit(domain, epoch) == epoch else "waiting"
        except errors.CallboardError:
            return "waiting"
