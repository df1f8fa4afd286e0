"""One simulated node: the real parts, on a loop, a clock, a network and a coordination link of its own.

Put together as `node.wiring` and `node.hosting` do it, but for sockets and files. Which requests it let in is written into the
stage's history here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from callboard.app import exposure
from callboard.coordination import presence
from callboard.coordination.engines import memory
from callboard.names import model, resolver
from callboard.node import joining
from callboard.roles import offices, registry, role, self_report, service
from callboard.roles.registry import watch
from callboard.rpc import doors, network, peers, serving
from callboard.testing import virtual
from tests.scenarios import history, services
from tests.scenarios import stage as stages

DRIFT = 1e-4
"""How much clocks run fast or slow."""
LIMITS = peers.Limits(keepalive_seconds=2.0, silent_seconds=4.0, dial_seconds=1.0)


class Witness:
    """Stands before what is served, and writes down what is let in, and under which epoch answers are let out."""

    def __init__(self, served: Any, node: SimNode) -> None:
        self._served = served
        self._node = node

    @property
    def label(self) -> str:
        return str(self._served.label)

    @property
    def methods(self) -> Mapping[str, serving.Method]:
        found: Mapping[str, serving.Method] = self._served.methods
        return found

    def admit(self, domain: str, epoch: int) -> int:
        own: int = self._served.admit(domain, epoch)
        if own:
            stage = self._node.stage
            seat = (self.label, stage.groups.of(domain))
            stage.history.accepted.append(history.Accepted(stage.now, seat, own, epoch, self._node.incarnation))
        return own


class SimNode:
    """One process. `start` runs on its own loop; a simulation freezes and kills the loop."""

    def __init__(self, stage: stages.Stage, place: stages.Place) -> None:
        chance = stage.chance
        self.stage = stage
        self.place = place
        self.incarnation = f"{chance.getrandbits(128):032x}"
        self.loop = stage.timeline.loop(offset_seconds=chance.uniform(10, 1e6), rate=1 + chance.uniform(-DRIFT, DRIFT))
        self.loop.node = self  # type: ignore[attr-defined]
        self.clock = virtual.VirtualClock(self.loop)
        self.network = stage.fabric.join(place.machine, self.loop)
        self.link = stage.fabric.coordination_link(place.machine)
        self.hung = False
        """Whether the methods of its services hang."""
        self.started = False
        self.peers: peers.Peers
        self.resolver: resolver.Resolver
        self.roles: list[role.Role] = []
        self.offers: Sequence[model.Offer] = ()
        self.session: joining.LateSession
        stage.disturb(self.incarnation, 0)

    @property
    def session_name(self) -> str:
        return f"node-{self.incarnation}"

    async def start(self) -> None:
        stage, place = self.stage, self.place
        chance = stage.chance.random
        table = serving.Table(self.incarnation)
        secret = self.incarnation.encode()
        self.peers = peers.Peers(
            peers.Identity("callboard", "main", self.incarnation),
            self.network,
            table,
            clock=self.clock,
            secret=secret,
            secret_of=lambda address: address.incarnation.encode(),
            host=place.machine,
            chance=chance,
            limits=LIMITS,
        )
        granted = stage.pace.session if place.group or place.role == "registry" else stage.pace.long_session
        stage.history.granted[self.incarnation] = granted
        engine = memory.MemoryEngine(stage.site, link=self.link, session_seconds=granted)
        self.session = joining.LateSession(engine, self.session_name, session_seconds=granted)
        self.presence = presence.Presence(self.session, self.clock, chance=chance)
        self.resolver = resolver.Resolver(self.peers, stage.read_doors, chance=chance)
        await self.peers.start()
        await self.session.start()
        await self.presence.start()
        await self.resolver.start()
        self.roles = [*self._roles(), self_report.NodeItself(self.peers, stage.groups, lambda: self.offers)]
        self.offers = [each.offer if isinstance(each, service.Service) else exposure.role_offer(each) for each in self.roles]
        for each in self.roles:
            await each.start()
            table.add(Witness(each, self) if isinstance(each, service.Service) else each)
        await self._announce()
        self.started = True

    def _roles(self) -> list[role.Role]:
        place = self.place
        made: list[role.Role] = []
        if place.role == "registry":
            limits = watch.Limits(period_seconds=self.stage.pace.patrol)
            chance = self.stage.chance.random
            made.append(registry.Registry(self.session, self.peers, self.stage.groups, self.clock, chance=chance, limits=limits))
        if place.group:
            made.append(service.Service(services.app.services["ledger"], clock=self.clock, candidacy=self._candidacy()))
        if place.cache:
            made.append(service.Service(services.app.services["cache"], clock=self.clock))
        return made

    def _candidacy(self) -> offices.Candidacy:
        return offices.Candidacy(
            presence=self.presence,
            groups=self.stage.groups,
            stands_for=[self.place.group],
            order=self.place.order,
            preempt=True,
            address=self.address,
            site="main",
        )

    def address(self) -> network.Address:
        host, port = self.peers.listening
        return network.Address(self.incarnation, host, port)

    async def _announce(self) -> None:
        host, port = self.peers.listening
        facts = model.NodeFacts(incarnation=self.incarnation, host=host, port=port, site="main", offers=tuple(self.offers))
        names = tuple(each.name for each in self.roles)
        if self.place.cache:
            self.stage.caches.append(self.address())
        self.stage.doors[self.place.machine] = doors.Door(self.incarnation, host, port, b"", names)
        await self.presence.declare(f"{model.NODES}/{self.incarnation}", msgspec.json.encode(facts))

    def kill(self, *, silent: bool) -> None:
        """End the process as SIGKILL does; `silent`: its machine with it."""
        self.loop.kill()
        self.stage.fabric.gone(self.place.machine, silent=silent)
        self.stage.history.died[self.incarnation] = self.stage.now
        self.stage.disturb(self.incarnation, 1)
