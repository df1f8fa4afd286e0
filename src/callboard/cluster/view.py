"""The cluster view: which servers, nodes and offices there are at a site now, as values. Pure.

A site controller gathers it (`gathering`), numbers what changed (`deltas`) and tells every node, which keeps what it was told
last (`watching`). Versions only grow: the epoch of the site controller's office, then a serial of its own. Fields may be added,
with defaults; readers ignore those they do not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from callboard import errors
from callboard.kit import ring
from callboard.names import model
from callboard.rpc import network

F = TypeVar("F")

LABEL: Final = "view"
"""What every node answers to when a site controller tells it of changes. It is in no entry: nobody else finds it."""
TOPIC: Final = "view"
"""Topic of the notice by which a site controller that leaves its office says that it tells nothing any more."""
_STALE: Final = "-stale"


class Version(msgspec.Struct, frozen=True, order=True):
    """How new a view is: of two, the greater one is the newer one."""

    epoch: int = 0
    """Of the site controller's office; 0: nobody has told anything yet."""
    serial: int = 0

    def __str__(self) -> str:
        return f"{self.epoch}.{self.serial}"


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One process that is there."""

    incarnation: str
    server: str = ""
    """Name of its server; empty on one machine."""
    site: str = ""
    host: str = ""
    port: int = 0
    roles: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    """What it has methods for; which instance of a service is active, the offices tell."""
    available: bool = True
    """Whether it takes work: neither it nor its server is coming to its end."""

    @property
    def address(self) -> network.Address:
        return network.Address(self.incarnation, self.host, self.port, self.server)

    def offers(self, label: str) -> bool:
        """Tell whether it has a role or a service of this label."""
        return label in self.roles or label in self.services


class Office(msgspec.Struct, frozen=True, kw_only=True):
    """One office that is held: who is active for a label in a group."""

    label: str
    group: str
    epoch: int
    incarnation: str
    server: str = ""
    site: str = ""

    @property
    def name(self) -> str:
        return model.office(self.label, self.group)


class Facts(msgspec.Struct, frozen=True):
    """What there is, each by what tells it from others."""

    servers: Mapping[str, model.ServerFacts] = {}
    """By the incarnation of its agent: a server whose agent is dead is not here, its nodes are."""
    nodes: Mapping[str, Node] = {}
    """By incarnation."""
    offices: Mapping[str, Office] = {}
    """By name: `billing.main`."""


PARTS: Final = ("servers", "nodes", "offices")
"""The fields of `Facts`, and of what changes them."""


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """What leads from one version to another."""

    since: Version | None
    """What it must be applied to; None: to anything, as it tells the whole."""
    version: Version
    stale: bool = False
    """Whether coordination is out of the site controller's reach: it is the last known state then."""
    servers: Mapping[str, model.ServerFacts] = {}
    nodes: Mapping[str, Node] = {}
    offices: Mapping[str, Office] = {}
    """What came or changed."""
    gone_servers: tuple[str, ...] = ()
    gone_nodes: tuple[str, ...] = ()
    gone_offices: tuple[str, ...] = ()
    """What is there no more."""


class Ring:
    """The available nodes of a label, and which of them answers for a key: the same everywhere where the view is the same."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = {node.incarnation: node for node in nodes}

    def pick(self, key: str) -> Node:
        """Return the node that answers for a key; when one leaves, only its own keys move. Raises InvalidInput without any."""
        return self._nodes[ring.pick(key, self._nodes)]

    def order(self, key: str) -> list[Node]:
        """Return all, the best for a key first."""
        return [self._nodes[each] for each in ring.order(key, self._nodes)]

    def pick_bounded(self, key: str, loads: Mapping[str, int], bound: float = 1.25) -> Node:
        """Return the best node with room: none gets more than `bound` times the mean load. `loads` is what each has now, by
        incarnation; who is not in it has nothing. Raises InvalidInput without any node, or for a bound under 1."""
        return self._nodes[ring.pick_bounded(key, {each: loads.get(each, 0) for each in self._nodes}, bound)]


class View(Facts, frozen=True, kw_only=True):
    """What is known of a site now: a snapshot, which never changes. Newer ones take its place."""

    version: Version = Version()
    stale: bool = False
    """Whether this may be out of date: nobody tells of changes at present, or nobody has yet."""

    @property
    def mark(self) -> str:
        """A text that is another one for every view that says something else: what was seen last."""
        return f"{self.version}{_STALE if self.stale else ''}"

    def available(self, label: str) -> list[Node]:
        """Return the nodes with a role or service of this label that take work, by incarnation."""
        return [node for _, node in sorted(self.nodes.items()) if node.available and node.offers(label)]

    def ring(self, label: str) -> Ring:
        """Return what shares keys among the available nodes of a label: `view.ring("worker").pick(key)`."""
        return Ring(self.available(label))

    def holder(self, label: str, group: str = "main") -> Office | None:
        """Return the office of a label in a group, with its epoch; None while nobody holds it."""
        return self.offices.get(model.office(label, group))


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A newer view, and how it differs from the one before. Several changes may have become one."""

    view: View
    servers: tuple[model.ServerFacts, ...] = ()
    nodes: tuple[Node, ...] = ()
    offices: tuple[Office, ...] = ()
    """What came or changed."""
    gone_servers: tuple[model.ServerFacts, ...] = ()
    gone_nodes: tuple[Node, ...] = ()
    gone_offices: tuple[Office, ...] = ()
    """What is there no more, as it was. An office that changed hands is among `offices`."""


NOTHING: Final = View(stale=True)
"""What is known before anybody has told anything."""


def after(view: View, delta: Delta) -> View | None:
    """Return the view that a delta leads to; None for a gap: what it must be applied to is another one than this."""
    if delta.since is None:
        facts = {part: getattr(delta, part) for part in PARTS}
    elif delta.since == view.version:
        facts = {part: _changed(getattr(view, part), getattr(delta, part), getattr(delta, f"gone_{part}")) for part in PARTS}
    else:
        return None
    return View(version=delta.version, stale=delta.stale, **facts)


def change(before: View, now: View) -> Change:
    """Return how two views differ."""
    told: dict[str, tuple[Any, ...]] = {}
    for part in PARTS:
        old, new = getattr(before, part), getattr(now, part)
        told[part] = tuple(fact for key, fact in new.items() if old.get(key) != fact)
        told[f"gone_{part}"] = tuple(fact for key, fact in old.items() if key not in new)
    return Change(view=now, **told)


def parse_mark(text: str) -> tuple[Version, bool]:
    """Read a `View.mark`: the version, and whether it was stale. Raises InvalidInput."""
    epoch, _, serial = text.removesuffix(_STALE).partition(".")
    if not (epoch.isascii() and epoch.isdigit() and serial.isascii() and serial.isdigit() and len(text) <= 64):
        raise errors.InvalidInput(f"{text!r:.60} is no mark of a view: give that of the view seen last, like 12.5, unchanged")
    return Version(int(epoch), int(serial)), text.endswith(_STALE)


def _changed(before: Mapping[str, F], changed: Mapping[str, F], gone: Sequence[str]) -> Mapping[str, F]:
    if not changed and not gone:
        return before
    now = {**before, **changed}
    for key in gone:
        now.pop(key, None)
    return now
