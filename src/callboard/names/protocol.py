"""What registries, nodes and resolvers say to each other: results of their methods, and what is pushed. Values only.

Append-only, like frames: a field added later has a default. A registry exposes `lookup`, `recipients`, `subscribe` and `second`,
every node `ping`, `serves`, `offers` and `connections`.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from callboard.names import model

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
