"""Offices that go to another instance because somebody wants it: real registries, resolvers, elections on virtual time."""

from __future__ import annotations

import asyncio

import pytest

from callboard import errors
from callboard.app import declaring
from callboard.names import groups
from callboard.roles.gateway import moving
from callboard.rpc import serving
from tests.unit.names import town as towns
from tests.unit.names.town import lived

app = declaring.Callboard("town")


@app.service("billing", active="one")
class Billing:
    async def balance(self, call: serving.Call) -> int:
        return call.epoch

    async def slow(self, call: serving.Call, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return call.epoch


class Place:
    """A registry, a caller, and nodes that stand for one office, the first one active."""

    def __init__(self, town):
        self.town = town
        self.stands = []

    async def begin(self, nodes, *, preempt=True, orders=None):
        self.registry = await self.town.registry()
        for order in orders or range(nodes):
            node = await self.town.node(resolving=False, declared=False)
            await node.stand(app.services["billing"], order, preempt=preempt)
            self.stands.append(node)
            await self.town.until(lambda: self.holder is not None)
        self.caller = await self.town.node()
        await self.town.until(lambda: self.caller.resolver.home is not None)
        await self.town.until(lambda: self.standbys == nodes - 1)
        return self

    @property
    def holder(self):
        held = self.registry.registry._book.held().get(("billing", "main"))
        return held and held.office.incarnation

    @property
    def standbys(self):
        return next((len(each.standbys) for each in self.registry.registry._book.listing("billing")), -1)

    async def move(self, to=None, name="billing", seconds=10.0):
        return await moving.Moving(self.caller.resolver, name, "main", seconds).run(to)


def played(scenario, nodes, **how):
    async def main(town):
        return await scenario(town, await Place(town).begin(nodes, **how))

    return lived(main)


@pytest.mark.parametrize("preempt", [True, False])
def test_the_office_goes_to_the_next_one_and_stays_there(preempt):
    async def scenario(town, place):
        first, second, third = (each.incarnation for each in place.stands)
        assert place.holder == first
        moved = await place.move()
        assert (moved.left.node, moved.holder.node) == (first, second)
        assert moved.epoch > moved.before and moved.epoch == await place.caller.call(), "the new one serves already"
        await asyncio.sleep(30)
        assert place.holder == second, "it does not come back by itself"
        assert [(await place.move()).holder.node for _ in range(3)] == [third, first, second]

    played(scenario, 3, preempt=preempt)


@pytest.mark.parametrize("preempt", [True, False])
def test_the_office_goes_to_the_one_that_is_named_past_others(preempt):
    async def scenario(town, place):
        first, second, third = (each.incarnation for each in place.stands)
        moved = await place.move(third[-4:])
        assert (moved.left.node, moved.holder.node) == (first, third)
        again = await place.move(third)
        assert (again.before, again.epoch, again.holder.node) == (moved.epoch, moved.epoch, third)
        await asyncio.sleep(30)
        assert place.holder == third, "nobody who was ahead of it takes it back"
        assert (await place.move()).holder.node == second, "those who stepped back keep their order"

    played(scenario, 3, preempt=preempt)


def test_no_call_is_lost_or_refused_while_the_office_moves():
    async def scenario(town, place):
        over, epochs = asyncio.Event(), []

        async def go_on():
            while not over.is_set():
                epochs.append(await place.caller.call(timeout=5))
                await asyncio.sleep(0.003)

        going = [asyncio.create_task(go_on()) for _ in range(5)]
        slow = asyncio.create_task(place.caller.resolver.call("billing", "slow", towns.pack(seconds=1.5), timeout=5))
        await asyncio.sleep(0.1)
        moved = await place.move()
        assert towns.unpack(await slow) == moved.before, "what ran came to its end under the old epoch"
        await asyncio.sleep(0.1)
        over.set()
        await asyncio.gather(*going)
        assert set(epochs) == {moved.before, moved.epoch} and len(epochs) > 100

    played(scenario, 2)


def test_one_that_handed_over_follows_at_once_when_the_new_one_dies():
    async def scenario(town, place):
        moved = await place.move()
        await place.stands[1].die()
        died = town.now
        await town.until(lambda: place.holder == place.stands[0].incarnation)
        assert town.now - died < 0.5 and await place.caller.call() > moved.epoch

    played(scenario, 2)


def test_a_move_is_refused_when_nobody_stands_by():
    async def scenario(town, place):
        with pytest.raises(errors.StateRefused, match="nobody stands by for billing: start another instance"):
            await place.move()
        assert await place.caller.call()

    played(scenario, 1)


def test_the_next_one_that_answers_is_chosen_and_one_that_does_not_cannot_be_named():
    async def scenario(town, place):
        hung = place.stands[1]
        hung.hang()
        with pytest.raises(errors.NotActive, match=f"node {hung.incarnation} does not answer"):
            await place.move(hung.incarnation)
        assert place.holder == place.stands[0].incarnation
        moved = await place.move()
        assert moved.holder.node == place.stands[2].incarnation

    played(scenario, 3)


def test_who_is_named_must_stand_by():
    async def scenario(town, place):
        with pytest.raises(errors.NotFound, match=r"no node 'ffff' stands by for billing"):
            await place.move("ffff")
        near = place.stands[1].incarnation
        with pytest.raises(errors.NotFound, match=f"did you mean {near}"):
            await place.move("f" + near[1:])

    played(scenario, 2)


def test_only_a_name_with_an_office_can_move():
    async def scenario(town, place):
        with pytest.raises(errors.StateRefused, match="registry has no office that could move"):
            await place.move(name="registry")
        with pytest.raises(errors.UnknownName, match="did you mean billing"):
            await place.move(name="biling")
        with pytest.raises(errors.UnknownName, match="'callboard nodes' lists"):
            await place.move(name="xyz")

    played(scenario, 2)


def test_no_office_moves_while_coordination_is_out_of_reach():
    async def scenario(town, place):
        town.site.stop()
        await town.until(lambda: place.registry.registry._feed.stale)
        with pytest.raises(errors.CoordinationUnavailable, match="no office changes hands"):
            await place.move()
        town.site.resume()

    played(scenario, 2)


def test_a_hand_over_that_takes_longer_goes_on():
    async def scenario(town, place):
        slow = asyncio.create_task(place.caller.resolver.call("billing", "slow", towns.pack(seconds=1.5), timeout=5))
        await asyncio.sleep(0.1)
        began = town.now
        with pytest.raises(errors.DeadlineExceeded, match="the hand-over goes on") as late:
            await place.move(seconds=1.0)
        assert late.value.data["ran"] == "yes" and town.now - began < 1.2
        await slow
        await town.until(lambda: place.holder == place.stands[1].incarnation)

    played(scenario, 2)


def test_an_office_that_was_handed_over_meanwhile_is_left_alone():
    """What was read of it is old: the one that holds it is not asked under another epoch."""

    async def scenario(town, place):
        resolver = place.caller.resolver
        before = await resolver.listing("billing")
        await place.move()

        class Old:
            lookup, call = resolver.lookup, resolver.call

            async def listing(self, prefix="", *, timeout=5.0):
                return before

        with pytest.raises(errors.WrongEpoch):
            await moving.Moving(Old(), "billing", "main", 5.0).run(None)
        assert place.holder == place.stands[1].incarnation

    played(scenario, 2)


def test_each_group_moves_alone():
    async def scenario(town):
        place = await Place(town).begin(2)
        resolver = place.caller.resolver
        moved = await moving.Moving(resolver, "billing@acme", "main", 5.0).run(None)
        assert moved.group == "north"
        names = {each.name: each for each in (await resolver.listing()).names if each.label == "billing"}
        assert [names[name].instances[0].incarnation for name in ("billing", "billing@acme")] == [
            place.stands[0].incarnation,
            place.stands[1].incarnation,
        ]

    lived(scenario, groups.Groups({"north": ["acme"], "main": ["."]}))
