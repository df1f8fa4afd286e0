"""Site controllers and the nodes that they tell, on virtual time: real wire, coordination, elections; deaths, cuts, silence."""

import asyncio
import contextlib
import random

import msgspec
import pytest

from callboard import errors
from callboard.app import exposure
from callboard.cluster import deltas, view
from callboard.coordination import engine, presence
from callboard.coordination.engines import memory
from callboard.kit import grammar
from callboard.names import groups, model
from callboard.node import viewing
from callboard.roles import offices, self_report, site_controller
from callboard.roles.site_controller import courier
from callboard.rpc import peers, serving
from callboard.testing import simnet, virtual

SITE = "here"
SECONDS = 3.0
SOON = 0.1
"""How soon everybody knows of a change."""


class Node:
    """One node; some stand for the site's office."""

    def __init__(self, town, number, stands):
        self.town = town
        self.name = f"n{number}"
        self.number = number
        self.incarnation = f"{number:032x}"
        self.table = serving.Table(self.incarnation)
        self.wire = peers.Peers(
            peers.Identity("test", SITE, self.incarnation),
            town.fabric.join(self.name, town.loop),
            self.table,
            clock=town.clock,
            secret=b"s",
            secret_of=lambda address: b"s",
            host=self.name,
            chance=town.chance.random,
        )
        self.viewing = viewing.Viewing(self.wire)
        self.stands = stands
        self.controller = None
        self.dead = False

    @property
    def view(self):
        return self.viewing.watched.view

    async def start(self):
        link = self.town.fabric.coordination_link(self.name)
        self.session = await memory.MemoryEngine(self.town.site, link=link, session_seconds=SECONDS).session(
            f"node-{self.incarnation}"
        )
        self.presence = presence.Presence(self.session, self.town.clock, chance=self.town.chance.random)
        await self.viewing.start()
        await self.wire.start()
        await self.presence.start()
        if self.stands:
            await self._stand()
        await self.declare()
        return self

    async def _stand(self):
        candidacy = offices.Candidacy(
            presence=self.presence,
            groups=groups.Groups({SITE: (grammar.ROOT_DOMAIN,)}),
            stands_for=(SITE,),
            order=self.number,
            preempt=False,
            address=lambda: self.wire.address,
            site=SITE,
        )
        self.controller = site_controller.SiteController(
            self.session, self.wire, candidacy, self.town.clock, chance=self.town.chance.random
        )
        await self.controller.start()
        self.table.add(self.controller)

    async def declare(self, **changes):
        here = self.wire.address
        offers = [] if self.controller is None else [exposure.role_offer(self.controller, active="one")]
        facts = model.NodeFacts(
            incarnation=self.incarnation, host=here.host, port=here.port, site=SITE, offers=tuple(offers), **changes
        )
        await self.presence.declare(f"{model.NODES}/{self.incarnation}", msgspec.json.encode(facts))

    async def die(self):
        """As SIGKILL does, noticed by the agent."""
        self.dead = True
        self.town.fabric.gone(self.name, silent=False)
        self.town.site.end(f"node-{self.incarnation}")

    async def stop(self):
        for part in (self.controller, self.presence, self.wire, self.viewing):
            if part is not None:
                await part.stop()
        await self.session.close()


class Town:
    def __init__(self, loop):
        self.loop = loop
        self.clock = virtual.VirtualClock(loop)
        self.chance = random.Random(7)
        self.fabric = simnet.Fabric(loop.timeline, random.Random(5), simnet.Weather(slow_share=0.0))
        self.site = memory.Site()
        self.nodes = []

    async def node(self, *, stands=False):
        made = Node(self, len(self.nodes) + 1, stands)
        self.nodes.append(made)
        return await made.start()

    async def open(self, candidates=2, others=3):
        for number in range(candidates + others):
            await self.node(stands=number < candidates)
        await self.until(lambda: self.know(candidates + others) and self.agreed())

    @property
    def living(self):
        return [node for node in self.nodes if not node.dead]

    @property
    def holder(self):
        return next(node for node in self.living if node.controller is not None and node.controller.active)

    def know(self, count, nodes=None):
        return all(len(node.view.nodes) == count and not node.view.stale for node in nodes or self.living)

    def agreed(self):
        return all(node.view == self.living[0].view for node in self.living)

    async def until(self, condition, seconds=30.0):
        """Return how long it took."""
        began = self.loop.time()
        while not condition():
            assert self.loop.time() - began < seconds, [(node.name, node.view.mark, len(node.view.nodes)) for node in self.living]
            await asyncio.sleep(0.002)
        return self.loop.time() - began

    async def stop(self):
        for node in self.nodes:
            await node.stop()


def lived(scenario):
    async def main(loop):
        town = Town(loop)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(town.stop)
            await scenario(town)
        assert loop.complaints == []

    virtual.run(main, until=600.0)


def test_every_node_knows_who_comes_and_who_leaves():
    async def scenario(town):
        await town.open()
        held = town.nodes[0].view.holder(model.SITE_CONTROLLER, SITE)
        assert held.incarnation == town.holder.incarnation and held.epoch == town.nodes[0].view.version.epoch
        late = await town.node()
        assert await town.until(lambda: town.know(6) and town.agreed()) < SOON
        assert (await town.holder.controller.ping())["late"] == 0
        await late.die()
        assert await town.until(lambda: town.know(5) and town.agreed()) < SOON

    lived(scenario)


def test_a_node_that_drains_is_available_nowhere():
    async def scenario(town):
        await town.open()
        leaving = town.nodes[1]
        assert [node.incarnation for node in town.nodes[4].view.available(model.SITE_CONTROLLER)] == [
            node.incarnation for node in town.nodes[:2]
        ]
        await leaving.declare(state="draining")
        await town.until(lambda: town.agreed() and len(town.nodes[4].view.available(model.SITE_CONTROLLER)) == 1)
        assert leaving.incarnation in town.nodes[4].view.nodes

    lived(scenario)


def test_a_server_that_drains_takes_its_nodes_with_it():
    async def scenario(town):
        await town.open()
        agent = await memory.MemoryEngine(town.site, session_seconds=SECONDS).session("agent-a")
        said = model.ServerFacts(agent="a", site=SITE, state="draining")
        await agent.apply([engine.Create(f"{model.SERVERS}/a", msgspec.json.encode(said))])
        await town.until(lambda: town.agreed() and town.nodes[4].view.available(model.SITE_CONTROLLER) == [])
        assert town.nodes[4].view.servers["a"] == said
        await agent.close()
        await town.until(lambda: len(town.nodes[4].view.available(model.SITE_CONTROLLER)) == 2)

    lived(scenario)


def test_an_office_that_comes_back_under_its_old_epoch_goes_on_where_it_was():
    """It was about to be handed over when coordination went away, and the better candidate with it."""

    async def scenario(town):
        await town.open()
        for _ in range(3):
            await (await town.node()).die()
        await town.until(lambda: town.know(5) and town.agreed())
        seats, version = town.holder.controller._offices, town.nodes[4].view.version
        (seat,) = seats._seats.values()
        epoch = seat.epoch
        await seats._leave(seat)
        await seats._take(seat, epoch)
        await town.node()
        await town.until(lambda: town.know(6) and all(node.view.nodes == town.living[0].view.nodes for node in town.living), 5.0)
        assert town.nodes[4].view.version > version and town.nodes[4].view.version.epoch == epoch

    lived(scenario)


def test_the_next_holder_tells_under_a_higher_epoch():
    async def scenario(town):
        await town.open()
        first, version = town.holder, town.nodes[4].view.version
        await first.die()
        await town.until(lambda: all(node.view.stale for node in town.living if node.view.version == version))
        assert len(town.nodes[4].view.nodes) == 5, "what is known stays known while nobody tells anything"
        await town.until(lambda: town.know(4) and town.agreed())
        assert town.holder is not first
        assert town.nodes[4].view.version.epoch > version.epoch

    lived(scenario)


def test_a_node_that_missed_changes_is_caught_up_and_holds_nobody_up():
    async def scenario(town):
        await town.open()
        cut = town.nodes[4]
        others = [node for node in town.nodes if node is not cut]
        town.fabric.part([cut.name], [node.name for node in others])
        for count in (6, 7):
            await town.node()
            assert await town.until(lambda count=count: town.know(count, others)) < SOON
        await town.until(lambda: cut.view.stale)
        assert len(cut.view.nodes) == 5
        town.fabric.heal()
        await town.until(lambda: town.know(7) and town.agreed())

    lived(scenario)


def test_a_lost_connection_is_made_again_and_nothing_changes():
    async def scenario(town):
        await town.open()
        holder, node = town.holder, town.nodes[4]
        while (await holder.controller.ping())["late"]:  # Else the answer is what gets lost.
            await asyncio.sleep(0.002)
        version = node.view.version
        town.fabric.reset(holder.name, node.name)
        await town.until(lambda: node.view.stale)
        await town.until(lambda: not node.view.stale)
        assert node.view.version == version

    lived(scenario)


def test_without_coordination_nodes_go_on_with_what_they_know():
    async def scenario(town):
        await town.open()
        town.site.stop()
        await town.until(lambda: all(node.view.stale for node in town.nodes))
        assert all(len(node.view.nodes) == 5 for node in town.nodes)
        town.site.resume()
        await town.until(lambda: town.know(5) and town.agreed())

    lived(scenario)


def test_a_holder_that_leaves_says_so():
    """Its connections live on, but nobody tells anything any more."""

    async def scenario(town):
        await town.open(candidates=1)
        (holder,) = town.nodes[:1]
        await holder.controller.stop()
        await town.until(lambda: all(node.view.stale for node in town.nodes))
        assert holder.view.stale, "its own node, too"

    lived(scenario)


def test_a_holder_who_is_deposed_makes_room():
    async def scenario(town):
        await town.open()
        first = town.holder
        held = town.nodes[4].view.holder(model.SITE_CONTROLLER, SITE)
        town.fabric.part([first.name], [simnet.COORDINATION])
        town.site.end(f"node-{first.incarnation}")
        others = [node for node in town.nodes if node is not first]
        await town.until(lambda: any(node.controller is not None and node.controller.active for node in others))
        await town.until(lambda: all(node.view.version.epoch > held.epoch for node in others))
        await town.until(lambda: not first.controller.active)
        assert first.view.stale, "nobody finds it to tell it anything"
        town.fabric.heal()
        await town.until(lambda: town.know(5) and town.agreed())
        assert town.nodes[4].view.version.epoch > held.epoch

    lived(scenario)


async def _push(town, sender, receiver, made, since=None):
    answer = await sender.wire.request(
        receiver.wire.address,
        label=view.LABEL,
        domain="main",
        method="push",
        args=made.packed(since) if isinstance(made, deltas.Deltas) else made,
        timeout=1.0,
    )
    return msgspec.msgpack.decode(answer, type=view.Version)


def test_nothing_is_taken_from_an_earlier_holder():
    async def scenario(town):
        sender, receiver = await town.node(), await town.node()
        later, earlier = deltas.Deltas(9), deltas.Deltas(8)
        node = view.Node(incarnation="a")
        later.take(view.Facts())
        for _ in range(3):
            earlier.take(view.Facts(), stale=True)
            earlier.take(view.Facts(nodes={"a": node}))
        assert await _push(town, sender, receiver, later) == view.Version(9, 1)
        with pytest.raises(errors.WrongEpoch):
            await _push(town, sender, receiver, earlier)
        assert receiver.view.version == view.Version(9, 1) and receiver.view.nodes == {}
        told = []
        made = courier.Courier(sender.wire, receiver.wire.address, earlier, lambda: told.append(1), town.chance.random)
        made.wake()
        await town.until(lambda: told)
        await made.stop()
        assert not receiver.view.stale

    lived(scenario)


def test_what_comes_late_or_does_not_follow_changes_nothing():
    async def scenario(town):
        sender, receiver = await town.node(), await town.node()
        made = deltas.Deltas(9)
        nodes = {}
        packed = []
        for name in "abc":
            nodes = {**nodes, name: view.Node(incarnation=name)}
            made.take(view.Facts(nodes=nodes))
            packed.append((made.packed(None), made.packed(view.Version(9, max(made.version.serial - 1, 1)))))
        assert await _push(town, sender, receiver, packed[0][0]) == view.Version(9, 1)
        assert await _push(town, sender, receiver, packed[2][1]) == view.Version(9, 1), "a gap: it says what it has"
        assert await _push(town, sender, receiver, packed[2][0]) == view.Version(9, 3)
        assert await _push(town, sender, receiver, packed[0][0]) == view.Version(9, 3), "what is older is not taken"
        assert receiver.view.nodes.keys() == {"a", "b", "c"}
        with pytest.raises(errors.InvalidArguments):
            await _push(town, sender, receiver, b"\xc1nonsense")

    lived(scenario)


def test_the_office_of_a_site_is_no_group_of_domains():
    """Registries ask a node how it is with the office: a holder that serves must not look as if it did not."""

    async def scenario(town):
        await town.open(others=1)
        holder, asker = town.holder, town.nodes[2]
        grouping = groups.Groups({"north": ["acme"]}, site=SITE)
        itself = self_report.NodeItself(holder.wire, grouping, lambda: [exposure.role_offer(holder.controller, active="one")])
        holder.table.add(itself)

        async def ask(method, **args):
            sent = msgspec.msgpack.encode(args)
            answer = await asker.wire.request(
                holder.wire.address, label="node", domain="main", method=method, args=sent, timeout=1.0
            )
            return msgspec.msgpack.decode(answer)

        async def office(group, epoch):
            return (await ask("ping", label=model.SITE_CONTROLLER, group=group, epoch=epoch))["office"]

        epoch = holder.view.version.epoch
        assert await office(SITE, epoch) == "held"
        assert await office(SITE, epoch - 1) == "waiting"
        assert await office("north", epoch) == "waiting"
        said = await ask("serves", name=model.SITE_CONTROLLER)
        assert (said["group"], said["epoch"]) == (SITE, epoch)

    lived(scenario)
