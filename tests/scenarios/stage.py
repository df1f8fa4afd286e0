"""What all parts of one simulation share: time, chance, the network, the coordination, and the book of what happened."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

import msgspec

from callboard.coordination import election
from callboard.names import groups
from callboard.rpc import doors, network
from callboard.testing import simnet, virtual
from tests.scenarios import history, site

GROUPS = {"north": ("acme",), "south": (".",), "west": ("initech", "west.acme")}
NAMES = ("ledger@acme", "ledger@team.acme", "ledger", "ledger@initech", "ledger@x.west.acme")
"""Names of the service of which one instance a group is active; every group is among them."""


class Pace(msgspec.Struct, frozen=True):
    """How long things take in a simulation, in virtual seconds."""

    session: float = 3.0
    """Granted to those who hold offices, and to registries."""
    long_session: float = 6.0
    """Granted to the others."""
    patrol: float = 1.0
    """Between two pings of a registry."""
    calm: float = 1.0
    """Before the first fault."""
    storm: float = 7.5
    """Of faults."""
    recovery: float = 6.5
    """After healing, until every name must have an active instance again."""
    dead_slack: float = 5.5
    """How long after a dead one's session has expired a lookup may still return it: a resolver may have lost its registry just
    then, does not notice for the time after which a silent connection is given up, and has to find another one."""
    well: float = 4.0
    """How long a node must have been undisturbed to count as well."""


class Place(msgspec.Struct, frozen=True):
    """What is to run on a machine."""

    machine: str
    role: Literal["registry", "service", "caller"]
    group: str = ""
    """Of the office for which its ledger stands; empty: none."""
    order: int = 0
    cache: bool = False
    """Whether it hosts the service of which all instances serve."""
    calls: bool = False
    """Whether it makes calls all the time."""


class Stage:
    """One simulation's common ground."""

    def __init__(self, seed: int, pace: Pace) -> None:
        self.seed = seed
        self.pace = pace
        self.chance = random.Random(seed)
        self.timeline = virtual.Timeline()
        self.fabric = simnet.Fabric(self.timeline, random.Random(self.chance.getrandbits(64)))
        self.history = history.History(pace.dead_slack)
        self.site = site.RemoteSite(self.timeline.loop(), self.deposed)
        self.groups = groups.Groups(GROUPS)
        self.doors: dict[str, doors.Door] = {}
        """By machine: what the configured servers' agents say of the nodes there."""
        self.caches: list[network.Address] = []
        """Every instance of the cache that was ever announced."""
        self._disturbed: dict[str, tuple[int, float]] = {}
        """By incarnation: how much is being done to it now, and when something was last done."""
        self.ordered: set[int] = set()
        """Epochs whose end the simulation itself ordered."""

    @property
    def now(self) -> float:
        return self.timeline.now

    async def read_doors(self) -> Sequence[doors.Door]:
        return list(self.doors.values())

    def disturb(self, incarnation: str, more: int) -> None:
        """Something begins (1) or ends (-1) to be done to a node."""
        count, _ = self._disturbed.get(incarnation, (0, 0.0))
        self._disturbed[incarnation] = (count + more, self.now)

    def well(self, incarnation: str) -> bool:
        """Tell whether nothing was done to a node for long enough that nobody may find fault with it."""
        count, last = self._disturbed.get(incarnation, (0, self.now))
        return not count and self.now - last > self.pace.well

    def calm_since(self, incarnation: str, since: float) -> bool:
        """Tell whether nothing was done to a node since then."""
        count, last = self._disturbed.get(incarnation, (0, self.now))
        return not count and last < since

    def deposed(self, mark: election.Mark, office: str, by: str) -> None:
        label, _, group = office.partition(".")
        holder = mark.session.removeprefix("node-")
        well = self.well(holder) and mark.epoch not in self.ordered
        self.history.deposed.append(history.Deposed(self.now, (label, group), mark.epoch, holder, by, well))
