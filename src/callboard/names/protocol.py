"""What registries, nodes and resolvers say to each other: results of their methods, and what is pushed. Values only.

Append-only, like frames: a field added later has a default. A registry exposes `lookup`, `listing`, `recipients`, `subscribe` and
`second`, every node `ping`, `serves`, `offers`, `step_back` and `connections`.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from callboard.names import model
from callboard.rpc import network

REGISTRY: Final = "registry"
"""Label of the registries."""
NODE: Final = "node"
"""Label that every node has."""
TOPIC: Final = "names"
"""Topic of the notices that a registry pushes to its subscribers; the body is a `Changed`."""
SEATS_AT_ONCE: Final = 500
"""Seats in one message, at most: what has more is split."""


class Found(msgspec.Struct, frozen=True):
    """The result of `lookup`."""

    answer: model.Answer
    serial: int
    """Of the registry's last push: an answer with a lower one than was heard already may be older than what was pushed."""


class Standby(msgspec.Struct, frozen=True):
    """One who takes an office when its turn comes."""

    address: network.Address
    order: int


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A name, or what has a name of its own for each group, and who answers."""

    name: str
    """As callers may write it: with a domain of the group where that is not the default domain's."""
    label: str
    group: str
    """Empty where every instance serves."""
    kind: Literal["role", "service"]
    active: model.Active
    epoch: int
    """0 where every instance serves, and while the office is vacant."""
    instances: tuple[network.Address, ...]
    """The active one, or all."""
    standbys: tuple[Standby, ...] = ()
    """Who stands for the office and does not hold it, the next one first."""
    conflict: str = ""
    """Why nobody is told who answers: nodes disagree about what the label is."""


class Listing(msgspec.Struct, frozen=True):
    """The result of `listing`."""

    names: list[Listed]
    stale: bool
    """From the last known state: coordination is out of the registry's reach."""


class Subscribed(msgspec.Struct, frozen=True):
    """The result of `subscribe`: from here on, changes are pushed."""

    serial: int
    groups: str
    """`Groups.digest`: when it is another one than before, domains may belong elsewhere."""
    answers: list[model.Answer]
    """Of the seats that were asked for; one that is missing has no answer now."""


class Changed(msgspec.Struct, frozen=True):
    """What is pushed: the seats that changed, and the new answers of those that have one."""

    serial: int
    """One more than the push before: a gap is a push that was lost."""
    seats: list[tuple[str, str]]
    answers: list[model.Answer]


class Pong(msgspec.Struct, frozen=True):
    """The result of `ping`: the node's loop moves, and this is how it is with the office."""

    incarnation: str
    office: Literal["", "held", "waiting", "absent"] = ""
    """`held`: a request under that epoch would be accepted; `waiting`: it would not, for now or no more; `absent`: nothing here
    answers to the label. Empty where none was asked for."""
