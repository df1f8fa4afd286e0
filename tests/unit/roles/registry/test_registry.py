"""The whole role: lookups, pushes, pings, depositions."""

import asyncio
import functools

import msgspec
import pytest

from callboard import errors
from callboard.app import declaring
from callboard.coordination import engine, presence
from callboard.names import model, protocol
from callboard.roles import offices, service
from callboard.roles.registry import watch
from callboard.rpc import serving
from tests.unit.names import town as towns
from tests.unit.names.town import lived, pack

NEVER = watch.Limits(period_seconds=1000.0)


async def _ask(node, registry, method, **args):
    answer = await node.peers.request(
        registry.address, label="registry", domain="main", method=method, args=pack(**args), timeout=1.0
    )
    return towns.unpack(answer)


async def _settled(town, place, nodes):
    await town.until(lambda: len(place.registry._book.present()) == nodes)


def _marks(town):
    return [path for path in town.site.entries if path.startswith("deposed/")]


def _active(town):
    return town.site.entries.get("active/billing.main")


def test_a_registry_that_has_not_read_who_is_there_says_nothing():
    async def scenario(town):
        place = await town.registry()
        caller = await town.node(resolving=False)
        await _settled(town, place, 2)
        place.registry._feed.loaded = False
        with pytest.raises(errors.NotActive):
            await _ask(caller, place, "lookup", name="billing")

    lived(scenario)


def test_lookups_go_on_from_the_last_known_state_and_say_stale_while_coordination_is_out_of_reach():
    async def scenario(town):
        place = await town.registry(limits=NEVER)
        active = await town.node(towns.Shop(), resolving=False)
        epoch = await active.take()
        caller = await town.node()
        await town.until(lambda: place.registry._book.held() and caller.resolver.home)
        found = await _ask(caller, place, "lookup", name="billing")
        assert (found["answer"]["epoch"], found["answer"]["stale"]) == (epoch, False)
        town.site.stop()
        await town.until(lambda: place.registry._feed.stale)
        found = await _ask(caller, place, "lookup", name="billing")
        assert (found["answer"]["epoch"], found["answer"]["stale"]) == (epoch, True)
        assert (await caller.resolver.lookup("billing")).stale
        await caller.call()
        town.site.resume()
        await town.until(lambda: not place.registry._feed.stale)
        await town.until(lambda: not caller.resolver.cached("billing").stale)

    lived(scenario)


def test_nodes_whose_sessions_expired_in_an_outage_are_kept_until_they_say_that_they_are_there():
    async def scenario(town):
        place = await town.registry(limits=NEVER)
        cache = await town.node(towns.Shop("cache", "all"), resolving=False)
        gone = await town.node(towns.Shop("cache", "all"), resolving=False)
        caller = await town.node()
        await _settled(town, place, 4)
        town.fabric.part([place.name], ["coordination"])
        await town.until(lambda: place.registry._feed.stale)
        for node in (cache, gone):
            town.site.end(f"node-{node.incarnation}")  # Their sessions expired; their processes live.
        town.fabric.heal()
        await town.until(lambda: not place.registry._feed.stale)
        await asyncio.sleep(0.5)
        assert len(place.registry._book.present()) == 4
        await caller.call("cache")
        await cache.declare()
        await asyncio.sleep(7)
        assert {each.incarnation for each in place.registry._book.present()} == {
            node.incarnation for node in (place, cache, caller)
        }

    lived(scenario)


def test_a_label_whose_last_instance_is_gone_is_known_for_a_while():
    async def scenario(town):
        place = await town.registry(limits=NEVER)
        cache = await town.node(towns.Shop("cache", "all"), resolving=False)
        caller = await town.node()
        await _settled(town, place, 3)
        await caller.call("cache")
        await cache.die()
        with pytest.raises(errors.NotActive):
            await caller.call("cache", timeout=2)
        going = asyncio.create_task(caller.call("cache", timeout=20))
        await asyncio.sleep(1)
        another = await town.node(towns.Shop("cache", "all"), resolving=False)
        assert await going
        await another.die()
        await asyncio.sleep(35)
        with pytest.raises(errors.UnknownName):
            await caller.call("cache", timeout=2)

    lived(scenario)


def test_subscribers_hear_of_a_change_at_once_and_of_ten_thousand_domains_as_one_seat():
    async def scenario(town):
        place = await town.registry(limits=NEVER)
        active = await town.node(towns.Shop(), resolving=False)
        caller = await town.node(resolving=False)
        heard = []
        caller.peers.listen(protocol.TOPIC, lambda _, body: heard.append(msgspec.msgpack.decode(body, type=protocol.Changed)))
        await _settled(town, place, 3)
        said = await _ask(caller, place, "subscribe", seats=[("billing", "main"), ("other", "main")])
        assert [answer["epoch"] for answer in said["answers"]] == [0]
        epoch = await active.take()
        await town.until(lambda: heard)
        assert heard[0].seats == [("billing", "main")]
        assert [answer.epoch for answer in heard[0].answers] == [epoch]
        assert heard[0].serial == said["serial"] + 1

    lived(scenario)


def test_a_subscriber_whose_connection_takes_no_more_is_told_that_it_missed_something():
    async def scenario(town):
        place = await town.registry(limits=NEVER)
        active = await town.node(towns.Shop(), resolving=False)
        caller = await town.node()
        await _settled(town, place, 3)
        with pytest.raises(errors.NotActive):
            await caller.call(timeout=0.5)
        notify = place.peers.notify
        place.peers.notify = lambda *_: False
        epoch = await active.take()
        await asyncio.sleep(1)
        assert caller.resolver.cached("billing").epoch == 0
        place.peers.notify = notify
        await town.until(lambda: caller.resolver.cached("billing").epoch == epoch, 2)

    lived(scenario)


def test_a_node_that_hosts_a_registry_is_served_by_it():
    async def scenario(town):
        place = await town.registry(limits=NEVER)
        await town.registry(limits=NEVER)
        active = await town.node(towns.Shop(), resolving=False)
        await active.take()
        await town.until(lambda: place.resolver.home is not None)
        await _settled(town, place, 3)
        assert place.resolver.home == place.address
        await place.call()
        await active.leave()
        await town.until(lambda: not place.resolver.cached("billing").instances)

    lived(scenario)


def test_whoever_does_not_answer_though_its_session_lives_is_deposed_by_two_registries():
    async def scenario(town):
        places = [await town.registry() for _ in range(2)]
        active = await town.node(towns.Shop(), resolving=False)
        await active.take()
        for place in places:
            await _settled(town, place, 3)
        await asyncio.sleep(5)
        assert _active(town)
        active.hang()
        hung = town.now
        await town.until(lambda: not _active(town))
        assert 0.7 < town.now - hung < 3.0
        assert _marks(town) == ["deposed/billing.main"]

    lived(scenario)


def test_one_registry_alone_deposes_alone_and_two_only_together():
    async def scenario(town):
        first = await town.registry()
        active = await town.node(towns.Shop(), resolving=False)
        await active.take()
        second = await town.registry()
        for place in (first, second):
            await _settled(town, place, 3)
        town.fabric.part([first.name], [active.name])  # The second one reaches it: it must stay.
        await asyncio.sleep(20)
        assert _active(town)
        await second.die()
        await town.until(lambda: not _active(town), 5)

    lived(scenario)


def test_the_registry_of_the_accused_node_is_not_asked():
    async def scenario(town):
        first = await town.registry()
        active = await town.registry(towns.Shop())
        await active.take()
        await _settled(town, first, 2)
        active.hang()
        await town.until(lambda: not _active(town), 5)

    lived(scenario)


def test_a_registry_accuses_nobody_to_whom_it_has_no_way():
    """As at two servers that share coordination and have no certificates: each knows the secrets of its own nodes alone."""

    async def scenario(town):
        first, second = [await town.registry(towns.Shop()) for _ in range(2)]
        first.peers._secret_of = second.peers._secret_of = lambda address: None
        await first.take()
        for place in (first, second):
            await _settled(town, place, 2)
        await asyncio.sleep(20)
        assert _active(town)
        assert not await second.registry._patrol.second("billing", "main", _active(town).number)

    lived(scenario)


def test_a_registry_to_which_there_is_no_way_is_not_asked_to_agree():
    async def scenario(town):
        first, stranger = [await town.registry() for _ in range(2)]
        active = await town.node(towns.Shop(), resolving=False)
        first.peers._secret_of = lambda address: None if address.incarnation == stranger.incarnation else b"s"
        stranger.peers._secret_of = lambda address: None
        await active.take()
        for place in (first, stranger):
            await _settled(town, place, 3)
        active.hang()
        await town.until(lambda: not _active(town), 5)

    lived(scenario)


@pytest.mark.parametrize("away", [3.0, 30.0])
def test_a_registry_that_was_late_accuses_nobody(away):
    async def scenario(town):
        place = await town.registry()
        active = await town.node(towns.Shop(), resolving=False)
        await active.take()
        await _settled(town, place, 2)
        active.hang()
        await asyncio.sleep(1.0)
        boot = town.clock.boot
        shift = 0

        def late():
            return boot() + shift

        town.clock.boot = late
        for _ in range(10):  # Its timers are late again and again: never two misses in a row that count.
            await asyncio.sleep(0.6)
            shift += round(away * 1e9)
        assert _active(town)
        await town.until(lambda: not _active(town), 5)

    lived(scenario)


def test_a_registry_that_coordination_does_not_hear_deposes_when_it_does():
    async def scenario(town):
        place = await town.registry()
        active = await town.node(towns.Shop(), resolving=False)
        await active.take()
        await _settled(town, place, 2)
        town.fabric.part([place.name], ["coordination"])
        await town.until(lambda: place.registry._feed.stale)
        active.hang()
        await asyncio.sleep(5)
        assert _active(town)
        town.fabric.heal()
        await town.until(lambda: not _active(town), 10)

    lived(scenario)


def test_an_instance_that_does_not_answer_is_named_only_while_there_is_no_other():
    async def scenario(town):
        place = await town.registry()
        caches = [await town.node(towns.Shop("cache", "all"), resolving=False) for _ in range(2)]
        caller = await town.node()
        await _settled(town, place, 4)
        assert len((await caller.resolver.lookup("cache")).instances) == 2
        caches[0].hang()
        await town.until(lambda: caller.resolver.cached("cache").instances == (caches[1].address,), 3)
        caches[1].hang()
        await town.until(lambda: len(caller.resolver.cached("cache").instances) == 2, 3)

    lived(scenario)


def _address(node):
    return node.address


class Billing:
    """A service with one active instance."""

    async def balance(self, call: serving.Call) -> str:
        return call.caller


def test_a_hung_service_is_replaced_within_five_seconds_and_its_successor_serves():
    async def scenario(town):
        app = declaring.Callboard("town")
        app.service("billing", active="one")(Billing)
        place = await town.registry()
        other = await town.registry()
        stands = []
        for order in range(2):
            node = await town.node(resolving=False, declared=False)
            there = presence.Presence(node.session, town.clock)
            candidacy = offices.Candidacy(
                presence=there,
                groups=town.groups,
                stands_for=town.groups.names,
                order=order,
                preempt=True,
                address=functools.partial(_address, node),
            )
            made = service.Service(app.services["billing"], clock=town.clock, candidacy=candidacy)
            await there.start()
            await made.start()
            node.table.add(made)
            facts = model.NodeFacts(incarnation=node.incarnation, host=node.name, port=node.address.port, offers=(made.offer,))
            await node.session.apply([engine.Create(f"nodes/{node.incarnation}", msgspec.json.encode(facts))])
            stands.append((node, there, made))
        caller = await town.node()
        await town.until(lambda: caller.resolver.home is not None and _active(town))
        await town.until(lambda: other.registry._book.held() and place.registry._book.held())
        await caller.call(timeout=5)
        first = caller.resolver.cached("billing").instances[0]
        assert first == stands[0][0].address
        await asyncio.sleep(2)
        stands[0][1]._tasks[0].cancel()  # A loop that hangs confirms nothing; its session lives in a thread of the engine.
        for standing in stands[0][1]._standings:
            standing._acting.cancel()
        stands[0][0].hang()
        stands[0][0].table.remove(stands[0][2])
        stands[0][0].table.add(towns.Hanging("billing"))
        hung = town.now
        await town.until(lambda: caller.resolver.cached("billing").instances == (stands[1][0].address,))
        assert town.now - hung < 4.75
        await caller.call(timeout=5)
        await stands[1][2].stop()
        await stands[1][1].stop()

    lived(scenario)


def test_names_are_listed_from_the_last_known_state_and_say_stale_while_coordination_is_out_of_reach():
    async def scenario(town):
        place = await town.registry(limits=NEVER)
        app = declaring.Callboard("town")
        app.service("billing", active="one")(Billing)
        stands = []
        for order in range(2):
            node = await town.node(resolving=False, declared=False)
            await node.stand(app.services["billing"], order)
            stands.append(node.incarnation)
        caller = await town.node()
        await town.until(lambda: caller.resolver.home is not None)
        await town.until(lambda: any(each.standbys and each.instances for each in place.registry._book.listing()))

        async def listed():
            said = await caller.resolver.listing("bill")
            (billing,) = said.names
            return (
                said.stale,
                [each.incarnation for each in billing.instances],
                [each.address.incarnation for each in billing.standbys],
            )

        assert await listed() == (False, stands[:1], stands[1:])
        town.site.stop()
        await town.until(lambda: place.registry._feed.stale)
        assert await listed() == (True, stands[:1], stands[1:])
        town.site.resume()
        await town.until(lambda: not place.registry._feed.stale)
        assert (await listed())[0] is False
        await place.die()
        with pytest.raises(errors.Unreachable, match="no registry answers"):
            await caller.resolver.listing()

    lived(scenario)
