"""Names and what is known of those who answer them. One function builds and one parses each text form, for both sides.

    billing@acme          the service `billing` for the domain `acme`; without `@`, for the domain `main`
    cache/0192…           one exact instance: its node's incarnation, 32 hexadecimal digits
    role:gateway          every node that hosts a role: whom a broadcast is for
    service:cache         every instance of a service

Roles with exposed methods answer like services do, at `gateway/0192…`. Entries of coordination are JSON (see `NodeFacts`,
`Office`): fields may be added, readers ignore those they do not know.
"""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

from callboard import errors
from callboard.kit import grammar
from callboard.rpc import network

NODES: Final = "nodes"
"""Folder of one entry a node: `nodes/<incarnation>`, a `NodeFacts`."""
CANDIDATES: Final = "candidates"
"""Folder of those who stand for an office; see `coordination.election`."""
ACTIVE: Final = "active"
"""Folder of offices that are held: `active/<label>.<group>`, an `Office`; the entry's number is the epoch."""

ROSTERS: Final = "rosters"
"""Folder of one lasting entry an agent: `rosters/<its own id>`, a `Roster`."""
SERVERS: Final = "servers"
"""Folder of one entry an agent: `servers/<incarnation of its agent>`, a `ServerFacts`."""
WISHES: Final = "wishes"
"""Folder of what operators want of servers and nodes, lasting: `wishes/server.<name>`, `wishes/node.<incarnation>`, a `Wish`."""
DOMAIN_CONTROLLER: Final = "domain-controller"
"""Label of the domain controllers."""
SITE_CONTROLLER: Final = "site-controller"
"""Label of the site controllers; the office's group is the site."""

Active = Literal["one", "all"]
_INCARNATION = re.compile("[0-9a-f]{32}")


class Name(msgspec.Struct, frozen=True):
    """A parsed name. `label` is the service's or role's."""

    label: str
    domain: str = grammar.DEFAULT_DOMAIN
    incarnation: str = ""

    def __str__(self) -> str:
        domain = "" if self.domain == grammar.DEFAULT_DOMAIN else f"@{self.domain}"
        return self.label + domain + (f"/{self.incarnation}" if self.incarnation else "")


def parse(text: str, domain: str = grammar.DEFAULT_DOMAIN) -> Name:
    """Parse `LABEL[@DOMAIN][/INCARNATION]`; `domain` is meant where none is named. Raises InvalidName."""
    if not isinstance(text, str):
        raise errors.InvalidName(f"name {text!r:.80} is not a text like 'billing@acme'")
    rest, slash, incarnation = text.partition("/")
    label, at, named = rest.partition("@")
    if slash and not _INCARNATION.fullmatch(incarnation):
        raise errors.InvalidName(f"name {text!r:.80}: after '/' comes an incarnation, 32 hexadecimal digits")
    return Name(grammar.check_label(label, "service"), grammar.check_domain(named) if at else domain, incarnation)


class Target(msgspec.Struct, frozen=True):
    """Whom a broadcast is for: every instance of a role or of a service."""

    kind: Literal["role", "service"]
    label: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.label}"


def parse_target(text: str) -> Target:
    """Parse `role:LABEL` or `service:LABEL`. Raises InvalidName."""
    kind, colon, label = text.partition(":") if isinstance(text, str) else ("", "", "")
    if not colon or kind not in ("role", "service"):
        raise errors.InvalidName(f"broadcast target {text!r:.80} is neither 'role:NAME' nor 'service:NAME'")
    if "@" in label or "/" in label:
        raise errors.InvalidName(f"broadcast target {text!r:.80} is more than a name: all instances are asked, write {kind}:NAME")
    return Target("role" if kind == "role" else "service", grammar.check_label(label, kind))


class Roster(msgspec.Struct, frozen=True):
    """Whom an agent answers for. It outlives the agent: of a silent server, this is what is known."""

    session: str
    """The agent's session in coordination: as long as it lives, its nodes are its business alone."""
    nodes: tuple[str, ...]
    """Incarnations: nodes that live, and the dead whose claims are not ended yet."""


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent says of its server, as long as it lives."""

    agent: str
    """Incarnation of the agent: where its wire is reached, if it has one."""
    server: str = ""
    """Name of the server, as in its certificate; empty on one machine."""
    site: str = ""
    host: str = ""
    port: int = 0
    """Where the agents of other servers reach it; 0: it has no wire."""
    software: str = ""
    """Version of the program."""
    file: int = 0
    """Version of the cluster's file that it was started from; 0: it was started from none."""
    state: Literal["serving", "draining", "drained"] = "serving"
    """Whether its nodes take work, are coming to their end because somebody wished it, or have ended for that."""
    trouble: str = ""
    """Why the last renewal that was wished stopped short, or did not begin; empty when it was complete."""

    @property
    def address(self) -> network.Address:
        return network.Address(self.agent, self.host, self.port, self.server)


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator wants of a server or a node; whoever answers for it brings it about, also after a restart."""

    what: Literal["drain", "renew"]
    """*drain*: nothing of it takes work any more, and it ends; a node is replaced, a server stays empty until the wish is taken
    back. *renew*: the agent starts itself anew from its file, and replaces its nodes one after another."""
    at: int
    """When it was wished, in microseconds of UTC, by the clock of whoever heard it."""
    by: str = ""
    """The id of the key that it was wished with."""


class Offer(msgspec.Struct, frozen=True):
    """One thing a node has methods for: a role or a service."""

    label: str
    kind: Literal["role", "service"]
    active: Active
    interface: str
    """A digest of the methods' names, parameters and marks; instances of one label must agree on it."""
    idempotent: tuple[str, ...] = ()
    """Methods that may safely be run twice."""


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is read from a node's entry by those who look names up. The entry holds more, for people."""

    incarnation: str
    host: str
    port: int
    server: str = ""
    site: str = ""
    offers: tuple[Offer, ...] = ()
    state: Literal["serving", "draining"] = "serving"
    """Whether it takes work, or is coming to its end."""

    @property
    def address(self) -> network.Address:
        return network.Address(self.incarnation, self.host, self.port, self.server)


class Office(msgspec.Struct, frozen=True, kw_only=True):
    """What an `active/` entry says: who holds the office of a label for a group."""

    label: str
    group: str
    incarnation: str
    host: str
    port: int
    server: str = ""
    site: str = ""
    serves: Literal["owner", "copy", "proxy"] = "owner"

    @property
    def address(self) -> network.Address:
        return network.Address(self.incarnation, self.host, self.port, self.server)


def office(label: str, group: str) -> str:
    """Return the name of an office: what instances stand for."""
    return f"{label}.{group}"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a lookup returns: who answers for a name now."""

    label: str
    group: str
    """Empty where every instance serves."""
    active: Active
    epoch: int
    """0 where every instance serves, and while no instance is active."""
    instances: tuple[network.Address, ...]
    """The active one, or all; empty while there is none although the label is known."""
    idempotent: tuple[str, ...] = ()
    stale: bool = False
    """From the last known state: coordination is out of the registry's reach."""
