"""A handful of nodes in one process on virtual time: real wire, coordination, registries, resolvers; services as tests want."""

import asyncio
import contextlib
import random

import msgspec

from callboard import errors
from callboard.app import exposure
from callboard.coordination import engine, presence
from callboard.coordination.engines import memory
from callboard.names import groups, model, resolver
from callboard.roles import offices, registry, self_report, service
from callboard.roles.registry import watch
from callboard.rpc import doors, peers, serving
from callboard.testing import simnet, virtual


def pack(**args):
    return msgspec.msgpack.encode(args)


unpack = msgspec.msgpack.decode


class Shop:
    """A service whose epochs and moods a test sets. Its methods say at which node they ran; `runs` are all of them."""

    def __init__(self, label="billing", active="one", grouping=None, interface="i1"):
        self.label = label
        self.groups = grouping or groups.Groups()
        self.offer = model.Offer(label, "service", active, interface, ("balance",))
        self.epochs = {}
        self.refusal = None
        self.runs = []
        self.waits = None
        self.lost_reply = None
        self.methods = {name: serving.Method(name, self.run, name == "balance") for name in ("balance", "charge")}

    def admit(self, domain, epoch):
        if self.refusal is not None:
            raise self.refusal
        if self.offer.active == "all":
            return 0
        own = self.epochs.get(self.groups.of(domain), 0)
        if not own:
            raise errors.NotActive("stands by", ran="no")
        if epoch and epoch != own:
            raise errors.WrongEpoch("another epoch", ran="no", epoch=own)
        return own

    async def run(self, call, args):
        self.runs.append(call)
        if self.waits is not None:
            await self.waits.wait()
        if self.lost_reply is not None:
            self.lost_reply()
            await asyncio.sleep(60)
        return msgspec.msgpack.encode([call.name, call.epoch])


class Node:
    """One node. `session` and `link` may be cut; `hang` makes its answers to pings stop."""

    def __init__(self, town, number, shops):
        self.town = town
        self.name = f"n{number}"
        self.incarnation = f"{number:032x}"
        self.shops = shops
        self.table = serving.Table(self.incarnation)
        self.peers = peers.Peers(
            peers.Identity("test", "here", self.incarnation),
            town.fabric.join(self.name, town.loop),
            self.table,
            clock=town.clock,
            secret=b"s",
            secret_of=lambda address: b"s",
            host=self.name,
            chance=town.chance.random,
        )
        self.link = town.fabric.coordination_link(self.name)
        self.registry = None
        self.presence = None
        self.itself = self_report.NodeItself(self.peers, town.groups, self.offers, self._standing)
        self.resolver = resolver.Resolver(self.peers, town.read_doors, chance=town.chance.random)

    @property
    def address(self):
        return self.peers.address

    def _standing(self, label, group):
        return None if self.presence is None else self.presence.standing(label, group)

    def offers(self):
        roles = [self.itself, *([self.registry] if self.registry else [])]
        return [*(shop.offer for shop in self.shops), *(exposure.role_offer(role) for role in roles)]

    async def start(self, *, registry_limits=None, resolving=True, declared=True):
        await self.peers.start()
        made = memory.MemoryEngine(self.town.site, link=self.link, session_seconds=3.0)
        self.session = await made.session(f"node-{self.incarnation}")
        for served in (self.itself, *self.shops):
            self.table.add(served)
        await self.itself.start()
        if registry_limits is not None:
            self.registry = registry.Registry(
                self.session,
                self.peers,
                self.town.groups,
                self.town.clock,
                limits=registry_limits,
                chance=self.town.chance.random,
            )
            await self.registry.start()
            self.table.add(self.registry)
        if declared:
            await self.declare()
        names = tuple(served for served in ("registry",) if self.registry)
        self.town.doors[self.incarnation] = doors.Door(self.incarnation, *self.peers.listening, b"s", names)
        if resolving:
            await self.resolver.start()
        return self

    async def declare(self, **changes):
        here = self.peers.address
        facts = model.NodeFacts(
            incarnation=self.incarnation, host=here.host, port=here.port, offers=tuple(self.offers()), **changes
        )
        await self.session.apply([engine.Create(f"nodes/{self.incarnation}", msgspec.json.encode(facts))])

    async def take(self, label="billing", group="main", *, serve=True):
        """Hold an office; return its epoch."""
        here = self.peers.address
        office = model.Office(label=label, group=group, incarnation=self.incarnation, host=here.host, port=here.port)
        path = f"{model.ACTIVE}/{model.office(label, group)}"
        (epoch,) = await self.session.apply([engine.Create(path, msgspec.json.encode(office))])
        if serve:
            next(shop for shop in self.shops if shop.label == label).epochs[group] = epoch
        return epoch

    async def stand(self, declared, order, *, preempt=True):
        """Host a service of an app, and stand for its offices in all groups."""
        self.presence = presence.Presence(self.session, self.town.clock, chance=self.town.chance.random)
        candidacy = offices.Candidacy(
            presence=self.presence,
            groups=self.town.groups,
            stands_for=self.town.groups.names,
            order=order,
            preempt=preempt,
            address=lambda: self.address,
        )
        self.hosted = service.Service(declared, clock=self.town.clock, candidacy=candidacy)
        self.shops = [*self.shops, self.hosted]
        await self.presence.start()
        await self.hosted.start()
        self.table.add(self.hosted)
        return await self.declare()

    async def leave(self, label="billing", group="main"):
        shop = next(shop for shop in self.shops if shop.label == label)
        epoch = shop.epochs.pop(group)
        await self.session.apply([engine.Remove(f"{model.ACTIVE}/{model.office(label, group)}", epoch)])

    async def die(self):
        """As SIGKILL does, noticed by the agent: no more answers, the session is ended, the door removed."""
        self.town.fabric.gone(self.name, silent=False)
        self.town.site.end(f"node-{self.incarnation}")
        self.town.doors.pop(self.incarnation, None)
        await self.stop()

    def hang(self):
        """Its loop hangs, its session and its connections live."""
        self.table.remove(self.itself)
        self.table.add(Hanging("node"))
        for shop in self.shops:
            shop.waits = asyncio.Event()

    async def stop(self):
        hosted = (self.hosted, self.presence) if self.presence is not None else ()
        for part in (self.resolver, self.registry, *hosted, self.itself, self.peers):
            if part is not None:
                await part.stop()
        await self.session.close()

    async def call(self, name="billing", method="balance", *, timeout=5.0, domain="main"):
        return unpack(await self.resolver.call(name, method, pack(), timeout=timeout, domain=domain))


class Hanging:
    """Answers to nothing."""

    def __init__(self, label):
        self.label = label
        self.methods = {name: serving.Method(name, self.run) for name in ("ping", "serves", "offers", "second", "lookup")}

    def admit(self, domain, epoch):
        return 0

    async def run(self, call, args):
        await asyncio.Event().wait()


class Town:
    """All of it. `now` is virtual time."""

    def __init__(self, loop, grouping=None):
        self.loop = loop
        self.clock = virtual.VirtualClock(loop)
        self.chance = random.Random(7)
        self.fabric = simnet.Fabric(loop.timeline, random.Random(5), simnet.Weather(slow_share=0.0))
        self.site = memory.Site()
        self.groups = grouping or groups.Groups()
        self.doors = {}
        self.doors_read = 0
        self.nodes = []

    @property
    def now(self):
        return self.loop.time()

    async def read_doors(self):
        self.doors_read += 1
        return list(self.doors.values())

    async def node(self, *shops, **how):
        made = Node(self, len(self.nodes) + 1, shops)
        self.nodes.append(made)
        return await made.start(**how)

    async def registry(self, *shops, limits=None, **how):
        return await self.node(*shops, registry_limits=limits or watch.Limits(), **how)

    async def until(self, condition, seconds=10.0):
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.005)

    async def stop(self):
        for node in self.nodes:
            await node.stop()


def lived(scenario, grouping=None):
    """Run `scenario(town)` on virtual time; return what it returns."""

    async def main(loop):
        town = Town(loop, grouping)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(town.stop)
            return await scenario(town)

    return virtual.run(main, until=600.0)
