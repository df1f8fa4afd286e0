import pytest

from callboard import errors
from callboard.app import declaring
from callboard.names import groups
from callboard.rpc import serving
from tests.unit.names import town as towns
from tests.unit.names.town import lived, pack, unpack


class Billing:
    """A service with one active instance."""

    async def balance(self, call: serving.Call) -> int:
        return call.epoch


async def _ask(asker, node, method, **args):
    answer = await asker.peers.request(node.address, label="node", domain="main", method=method, args=pack(**args), timeout=1.0)
    return unpack(answer)


def test_a_node_says_how_it_is_with_an_office():
    async def scenario(town):
        node = await town.node(towns.Shop(grouping=town.groups), towns.Shop("cache", "all"))
        asker = await town.node()
        epoch = await node.take(group="north")
        said = await _ask(asker, node, "ping")
        assert (said["incarnation"], said["office"], said["ready"]) == (node.incarnation, "", True)

        async def office(label, group, number):
            return (await _ask(asker, node, "ping", label=label, group=group, epoch=number))["office"]

        assert await office("billing", "north", epoch) == "held"
        assert await office("billing", "north", epoch - 1) == "waiting"
        assert await office("billing", "south", epoch) == "waiting"
        assert await office("billing", "elsewhere", epoch) == "waiting"
        assert await office("cache", "", 0) == "held"
        assert await office("unknown", "north", 1) == "absent"

    lived(scenario, groups.Groups({"north": ["acme"], "south": ["."]}))


def test_a_node_answers_for_what_it_serves_and_nothing_else():
    async def scenario(town):
        node = await town.node(towns.Shop(grouping=town.groups), towns.Shop("cache", "all"))
        asker = await town.node()
        with pytest.raises(errors.NotActive):
            await _ask(asker, node, "serves", name="billing@acme")
        epoch = await node.take(group="north")
        said = await _ask(asker, node, "serves", name="billing@team.acme")
        assert (said["epoch"], said["group"], said["idempotent"]) == (epoch, "north", ["balance"])
        assert [each["incarnation"] for each in said["instances"]] == [node.incarnation]
        assert (await _ask(asker, node, "serves", name=f"cache@acme/{node.incarnation}"))["active"] == "all"
        for name in ("biling", f"cache/{asker.incarnation}"):
            with pytest.raises(errors.UnknownName):
                await _ask(asker, node, "serves", name=name)
        with pytest.raises(errors.DomainNotServed):
            await _ask(asker, node, "serves", name="billing@globex")
        with pytest.raises(errors.InvalidName):
            await _ask(asker, node, "serves", name="Billing")

    lived(scenario, groups.Groups({"north": ["acme"]}))


def test_a_node_tells_its_connections_and_its_offers():
    async def scenario(town):
        node = await town.node(towns.Shop())
        asker = await town.node()
        assert {each["label"] for each in await _ask(asker, node, "offers")} == {"billing", "node"}
        assert [each["peer"] for each in await _ask(asker, node, "connections")] == [asker.incarnation]

    lived(scenario)


def test_a_node_steps_back_from_the_office_that_is_meant_and_from_no_other():
    async def scenario(town):
        app = declaring.Callboard("town")
        app.service("billing", active="one")(Billing)
        node = await town.node(declared=False)
        await node.stand(app.services["billing"], 3)
        asker = await town.node()
        standing = node.presence.standing("billing", "main")
        await town.until(lambda: standing.epoch)
        first = standing.epoch
        with pytest.raises(errors.NotActive, match="does not stand for billing of group north"):
            await _ask(asker, node, "step_back", label="billing", group="north", epoch=first, order=9)
        for epoch in (0, first - 1):
            with pytest.raises(errors.WrongEpoch) as refused:
                await _ask(asker, node, "step_back", label="billing", group="main", epoch=epoch, order=9)
            assert (refused.value.data["epoch"], refused.value.data["ran"]) == (first, "yes")
        args = pack(label="billing", group="main", epoch=first, order=9)
        await asker.peers.request(node.address, label="node", domain="main", method="step_back", args=args, timeout=1.0)
        await town.until(lambda: standing.epoch > first)
        assert f"candidates/billing.main.000009.{node.incarnation}" in town.site.entries

    lived(scenario)
