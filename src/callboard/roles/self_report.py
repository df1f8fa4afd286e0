"""What every node says of itself, at the label `node`: that its loop moves, what it answers for, who it is connected to.

Registries ping it and resolvers fall back to it when there is no registry; gateways ask it to step back from an office. It knows
its node's table and how the node stands for offices, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol

import msgspec

from callboard import errors
from callboard.app import exposure
from callboard.kit import grammar
from callboard.names import groups, model, protocol
from callboard.roles import role
from callboard.rpc import peers, serving


class Standing(Protocol):
    """One candidacy; see `coordination.presence`."""

    @property
    def epoch(self) -> int: ...

    def step_back(self, order: int) -> None: ...


def _stands_for_nothing(label: str, group: str) -> None:
    """Of a node without a part in elections."""


class NodeItself(role.Role):
    """The role that every node hosts. `offers` returns what the node's entry says of its roles and services, `standing` how the
    node stands for the office of a label in a group."""

    name: ClassVar[str] = protocol.NODE

    def __init__(
        self,
        wire: peers.Peers,
        grouping: groups.Groups,
        offers: Callable[[], Sequence[model.Offer]],
        standing: Callable[[str, str], Standing | None] = _stands_for_nothing,
    ) -> None:
        super().__init__()
        self._wire = wire
        self._groups = grouping
        self._offers = offers
        self._standing = standing
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
        group = self._groups.serving(asked.label, asked.domain) if offer.active == "one" else ""
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
    async def step_back(self, label: str, group: str, epoch: int, order: int) -> None:
        """Stand for an office behind those of lower orders; one that is held under this epoch (0: none is) goes to the next of
        them. Returns as soon as that has begun. Raises NotActive, WrongEpoch, StateRefused."""
        standing = self._standing(label, group)
        if standing is None:
            here = self._wire.identity.incarnation
            raise errors.NotActive(f"node {here} does not stand for {label} of group {group}: look it up again", ran="no")
        if standing.epoch != epoch:
            raise errors.WrongEpoch(
                f"{label} of group {group} is under epoch {standing.epoch} at this node, not {epoch}: look it up again",
                ran="no",
                epoch=standing.epoch,
            )
        standing.step_back(order)

    @exposure.method(idempotent=True)
    async def connections(self) -> list[dict[str, Any]]:
        """Return facts of the open connections to other nodes."""
        return self._wire.connections()

    def _office(self, label: str, group: str, epoch: int) -> Literal["held", "waiting", "absent"]:
        served = self._wire.table.find(label)
        if served is None:
            return "absent"
        domain = self._groups.domain_of(label, group) if group else grammar.DEFAULT_DOMAIN
        try:
            return "held" if domain is not None and served.admit(domain, epoch) == epoch else "waiting"
        except errors.CallboardError:
            return "waiting"
