import asyncio

import pytest

from callboard import errors
from callboard.names import groups
from callboard.rpc import doors, serving
from tests.unit.names import town as towns
from tests.unit.names.town import lived


async def _billing(town, *, registries=1, standby=True):
    """Registries, an active node, a standby, and a caller."""
    places = [await town.registry() for _ in range(registries)]
    active = await town.node(towns.Shop(grouping=town.groups))
    other = await town.node(towns.Shop(grouping=town.groups)) if standby else None
    await active.take()
    caller = await town.node()
    await town.until(lambda: caller.resolver.home is not None)
    await town.until(lambda: all("billing" in place.registry._book.labels() for place in places))
    return places, active, other, caller


def test_a_name_is_looked_up_once_and_called_at_its_active_instance():
    async def scenario(town):
        _, active, standby, caller = await _billing(town)
        assert caller.resolver.cached("billing") is None
        assert await caller.call() == ["billing", active.shops[0].epochs["main"]]
        await caller.call("billing@team.acme")
        assert caller.resolver.cached("billing").instances == (active.address,)
        assert [call.name for call in active.shops[0].runs] == ["billing", "billing@team.acme"]
        assert not standby.shops[0].runs

    lived(scenario)


def test_a_change_of_hands_is_pushed_and_one_seat_answers_for_all_domains_of_its_group():
    async def scenario(town):
        _, active, standby, caller = await _billing(town)
        names = ["billing", *(f"billing@d{n}.acme" for n in range(50))]
        for name in names:
            await caller.call(name)
        await active.leave()
        await town.until(lambda: not caller.resolver.cached("billing").instances)
        epoch = await standby.take()
        await town.until(lambda: caller.resolver.cached("billing").epoch == epoch)
        assert {caller.resolver.cached(name).instances for name in names} == {(standby.address,)}

    lived(scenario)


@pytest.mark.parametrize("method", ["balance", "charge"])
def test_a_call_to_a_name_without_an_active_instance_waits_for_the_next_one_and_goes_on_at_once(method):
    async def scenario(town):
        _, active, standby, caller = await _billing(town)
        await caller.call()
        await active.leave()
        going = asyncio.create_task(caller.call(method=method, timeout=30))
        await asyncio.sleep(8.3)
        assert not going.done()
        epoch = await standby.take()
        taken = town.now
        assert await going == ["billing", epoch]
        assert town.now - taken < 0.05

    lived(scenario)


def test_one_that_is_named_a_moment_before_it_serves_is_asked_again_soon():
    """However long the name was without an instance, and however patient those have become who wait."""

    async def scenario(town):
        _, active, standby, caller = await _billing(town)
        await caller.call()
        await active.leave()
        going = [asyncio.create_task(caller.call(timeout=30)) for _ in range(5)]
        await asyncio.sleep(8.3)
        standby.shops[0].refusal = errors.NotActive("begins", ran="no")
        epoch = await standby.take()
        await asyncio.sleep(0.03)
        standby.shops[0].refusal = None
        served = town.now
        assert await asyncio.gather(*going) == [["billing", epoch]] * 5
        assert town.now - served < 0.1

    lived(scenario)


def test_a_killed_instance_costs_callers_of_idempotent_methods_no_error():
    async def scenario(town):
        _, active, standby, caller = await _billing(town)
        await caller.call()
        active.shops[0].waits = asyncio.Event()
        going = asyncio.create_task(caller.call(timeout=30))
        await town.until(lambda: len(active.shops[0].runs) == 2)
        await active.die()
        epoch = await standby.take()
        taken = town.now
        assert await going == ["billing", epoch]
        assert town.now - taken < 0.1

    lived(scenario)


def test_a_call_that_may_have_run_is_not_made_again_unless_idempotent_and_says_so():
    async def scenario(town):
        _, active, standby, caller = await _billing(town)
        await caller.call()
        active.shops[0].waits = asyncio.Event()
        going = asyncio.create_task(caller.call(method="charge", timeout=30))
        await town.until(lambda: len(active.shops[0].runs) == 2)
        await active.die()
        with pytest.raises(errors.ConnectionLost) as caught:
            await going
        assert caught.value.data["ran"] == "unknown"
        assert not standby.shops[0].runs

    lived(scenario)


def test_a_dead_instance_that_is_still_named_is_called_again_until_the_deadline():
    async def scenario(town):
        _, active, _, caller = await _billing(town, standby=False)
        await caller.call()
        town.fabric.gone(active.name, silent=False)
        await active.peers.stop()
        await asyncio.sleep(0.1)
        began = town.now
        with pytest.raises(errors.Unreachable) as caught:
            await caller.call(method="charge", timeout=0.7)
        assert caught.value.data["ran"] == "no"
        assert 0.6 < town.now - began < 0.8

    lived(scenario)


@pytest.mark.parametrize("refusal", [errors.NotActive, errors.LeaseUnconfirmed, errors.WrongEpoch])
def test_what_an_instance_refuses_is_asked_again_until_the_deadline_and_then_the_answer(refusal):
    async def scenario(town):
        _, active, _, caller = await _billing(town)
        active.shops[0].refusal = refusal("not now", ran="no")
        with pytest.raises(refusal):
            await caller.call(method="charge", timeout=2)
        going = asyncio.create_task(caller.call(method="charge", timeout=20))
        await asyncio.sleep(5)
        active.shops[0].refusal = None
        assert await going

    lived(scenario)


def test_an_overloaded_instance_is_asked_a_few_times_only():
    async def scenario(town):
        _, active, _, caller = await _billing(town)
        active.shops[0].refusal = errors.Overloaded("full", ran="no")
        began = town.now
        with pytest.raises(errors.Overloaded):
            await caller.call(timeout=30)
        assert town.now - began < 2

    lived(scenario)


def test_what_the_method_says_is_the_answer():
    async def scenario(town):
        _, active, _, caller = await _billing(town)
        active.shops[0].refusal = errors.ServiceError("no money", ran="yes")
        with pytest.raises(errors.ServiceError, match="no money"):
            await caller.call(timeout=30)
        with pytest.raises(errors.UnknownMethod, match="balance"):
            active.shops[0].refusal = None
            await caller.call(method="chagre", timeout=30)

    lived(scenario)


def test_a_name_that_nobody_has_and_a_domain_that_nobody_serves_are_told_apart_at_once():
    async def scenario(town):
        _, _, _, caller = await _billing(town)
        began = town.now
        with pytest.raises(errors.UnknownName, match="biling") as caught:
            await caller.call("biling@acme")
        assert caught.value.data["ran"] == "no"
        with pytest.raises(errors.DomainNotServed, match=r"initech.*north") as refused:
            await caller.call("billing@initech")
        assert refused.value.data["groups"] == ["main", "north"]
        assert refused.value.data["ran"] == "no"
        for bad in ("Billing", "billing@", "billing/abc", ""):
            with pytest.raises(errors.InvalidName):
                await caller.call(bad)
        with pytest.raises(errors.NotActive):
            await caller.call("billing@acme", timeout=1)  # The group is known, nobody holds its office.
        assert town.now - began < 2

    lived(scenario, groups.Groups({"main": ("main",), "north": ("acme",)}))


def test_two_services_of_one_name_and_different_interfaces_are_an_error_of_the_caller():
    async def scenario(town):
        _, active, _, caller = await _billing(town)
        await caller.call()
        await town.node(towns.Shop(interface="i2"))
        await town.until(lambda: caller.resolver.cached("billing") is None)
        with pytest.raises(errors.InterfaceConflict, match="billing"):
            await caller.call()
        assert await caller.call(f"billing/{active.incarnation}")  # The exact one is beyond doubt.

    lived(scenario)


def test_every_instance_of_a_service_gets_its_turn_and_an_exact_one_is_called_by_its_incarnation():
    async def scenario(town):
        await town.registry()
        caches = [await town.node(towns.Shop("cache", "all")) for _ in range(3)]
        caller = await town.node()
        await town.until(lambda: caller.resolver.home is not None)
        for _ in range(9):
            await caller.call("cache")
        assert [len(node.shops[0].runs) for node in caches] == [3, 3, 3]
        await caller.call(f"cache/{caches[1].incarnation}")
        assert [len(node.shops[0].runs) for node in caches] == [3, 4, 3]
        with pytest.raises(errors.UnknownName):
            await caller.call(f"cache/{'f' * 32}")
        await caches[1].die()
        with pytest.raises(errors.UnknownName):
            await caller.call(f"cache/{caches[1].incarnation}", timeout=2)

    lived(scenario)


def test_a_call_that_finds_nobody_home_tries_the_next_instance():
    async def scenario(town):
        await town.registry()
        caches = [await town.node(towns.Shop("cache", "all")) for _ in range(3)]
        caller = await town.node()
        await town.until(lambda: caller.resolver.home is not None)
        await caller.call("cache")
        town.fabric.gone(caches[0].name, silent=False)
        await caches[0].peers.stop()
        await asyncio.sleep(0.1)
        began = town.now
        for _ in range(6):
            await caller.call("cache", "charge")
        assert town.now - began < 1
        assert caches[0].incarnation in caller.resolver._dead

    lived(scenario)


def test_a_ping_before_a_critical_request_finds_the_instance_that_lives():
    async def scenario(town):
        _, active, _, caller = await _billing(town)
        assert (await caller.resolver.lookup("billing", ping=True)).instances == (active.address,)
        active.shops[0].epochs.clear()  # It has left office, and nobody was told.
        assert (await caller.resolver.lookup("billing")).instances == (active.address,)
        with pytest.raises(errors.NotActive):
            await caller.resolver.lookup("billing", ping=True)
        caches = [await town.node(towns.Shop("cache", "all")) for _ in range(2)]
        caches[0].hang()
        await town.until(lambda: "cache" in town.nodes[0].registry._book.labels())
        for _ in range(3):
            answer = await caller.resolver.lookup("cache", ping=True)
            assert answer.instances[0] == caches[1].address

    lived(scenario)


def test_the_dead_are_remembered_and_looked_at_again_in_the_background():
    async def scenario(town):
        await town.registry()
        caches = [await town.node(towns.Shop("cache", "all")) for _ in range(2)]
        caller = await town.node()
        await town.until(lambda: caller.resolver.home is not None)
        await caller.call("cache")
        town.fabric.part([caller.name], [caches[0].name])
        for _ in range(4):
            await caller.call("cache", timeout=10)
        await town.until(lambda: caches[0].incarnation in caller.resolver._dead)
        town.fabric.mend([caller.name], [caches[0].name])
        await town.until(lambda: caches[0].incarnation not in caller.resolver._dead, 40)

    lived(scenario)


def test_a_registry_that_dies_is_replaced_and_what_changed_meanwhile_is_known():
    async def scenario(town):
        places, active, standby, caller = await _billing(town, registries=2)
        await caller.call()
        home = next(place for place in places if place.address == caller.resolver.home)
        other = next(place for place in places if place is not home)
        await home.die()
        await active.leave()
        epoch = await standby.take()
        await town.until(lambda: caller.resolver.home == other.address, 2)
        await town.until(lambda: caller.resolver.cached("billing").epoch == epoch, 1)
        assert await caller.call() == ["billing", epoch]

    lived(scenario)


def test_without_any_registry_the_configured_nodes_are_asked_one_by_one():
    async def scenario(town):
        places, active, standby, caller = await _billing(town)
        await caller.call()
        await places[0].die()
        await active.die()
        await town.until(lambda: caller.resolver.home is None)
        going = asyncio.create_task(caller.call(timeout=20))
        await asyncio.sleep(1)
        epoch = await standby.take()
        taken = town.now
        assert await going == ["billing", epoch]
        assert town.now - taken < 1
        assert await caller.call("billing@acme") == ["billing@acme", epoch]
        with pytest.raises(errors.UnknownName):
            await caller.call("biling")
        assert await caller.call(f"billing/{standby.incarnation}")

    lived(scenario)


def test_a_caller_without_anybody_in_reach_gets_an_answer_in_time():
    async def scenario(town):
        caller = await town.node()
        town.doors.clear()
        began = town.now
        with pytest.raises(errors.Unreachable):
            await caller.call(timeout=2)
        assert 1.9 < town.now - began < 2.1
        with pytest.raises(errors.Unreachable):
            await caller.resolver.lookup("billing")

    lived(scenario)


def test_a_registry_that_hangs_delays_a_lookup_and_then_another_one_is_home():
    async def scenario(town):
        places, _, _, caller = await _billing(town, registries=2)
        home = next(place for place in places if place.address == caller.resolver.home)
        home.table.remove(home.registry)
        home.table.add(towns.Hanging("registry"))
        began = town.now
        await caller.call()
        assert town.now - began < 1.5
        await town.until(lambda: caller.resolver.home not in (None, home.address))
        began = town.now
        await caller.call("billing@acme")
        assert town.now - began < 0.1

    lived(scenario)


def test_a_broadcast_has_one_outcome_for_each_recipient():
    async def scenario(town):
        places, _, _, caller = await _billing(town)
        caches = [await town.node(towns.Shop("cache", "all")) for _ in range(3)]
        await town.until(lambda: len(places[0].registry._book.present()) == 7)
        outcomes = await caller.resolver.broadcast("service:cache", "balance", towns.pack())
        assert [each.member for each in outcomes] == [f"cache/{node.incarnation}" for node in caches]
        assert {each.status for each in outcomes} == {"ok"}
        acted = await caller.resolver.broadcast("service:cache", "charge", towns.pack(), mode="elect")
        assert sorted(each.status for each in acted) == ["elsewhere", "elsewhere", "ok"]
        assert len(await caller.resolver.broadcast("role:node", "connections", towns.pack())) == 7
        with pytest.raises(errors.UnknownName):
            await caller.resolver.broadcast("service:cahce", "balance", towns.pack())
        with pytest.raises(errors.InvalidName):
            await caller.resolver.broadcast("cache", "balance", towns.pack())
        await places[0].die()
        await asyncio.sleep(0.2)
        outcomes = await caller.resolver.broadcast("service:cache", "balance", towns.pack())
        assert [each.status for each in outcomes] == ["ok", "ok", "ok"]

    lived(scenario)


def test_a_call_that_is_cancelled_or_too_late_ends_then_and_leaves_nothing():
    async def scenario(town):
        _, active, _, caller = await _billing(town)
        active.shops[0].waits = asyncio.Event()
        began = town.now
        with pytest.raises(errors.DeadlineExceeded) as caught:
            await caller.call(timeout=1.5)
        assert caught.value.data["ran"] == "unknown"
        assert 1.4 < town.now - began < 1.6
        for name in ("billing", "billing@acme"):
            going = asyncio.create_task(caller.call(name))
            await asyncio.sleep(0.01)
            going.cancel()
            with pytest.raises(asyncio.CancelledError):
                await going

    lived(scenario)


def test_nothing_goes_on_after_the_end_and_ending_twice_or_before_the_start_is_allowed():
    async def scenario(town):
        _, active, _, caller = await _billing(town, registries=2)
        active.shops[0].waits = asyncio.Event()
        going = asyncio.create_task(caller.call(timeout=100))
        looking = asyncio.create_task(caller.resolver.lookup("billing@acme", ping=True, timeout=100))
        await town.until(lambda: active.shops[0].runs)
        going.cancel()
        looking.cancel()
        await asyncio.gather(going, looking, return_exceptions=True)
        fresh = towns.Node(town, 99, ())
        await fresh.resolver.stop()
        await fresh.itself.stop()
        for _ in range(2):
            await town.stop()
        assert [task for task in town.loop.tasks() if task is not asyncio.current_task() and not task.done()] == []

    lived(scenario)


@pytest.mark.parametrize("noise", [b"\xa1\xff", b"\x01", b""])
def test_a_registry_that_talks_nonsense_is_passed_over_and_does_not_end_the_search(noise):
    async def scenario(town):
        async def babble(call, args):
            return noise

        babbler = towns.Hanging("registry")
        babbler.methods = {name: serving.Method(name, babble) for name in ("lookup", "subscribe", "recipients")}
        bad = await town.node(resolving=False)
        bad.table.add(babbler)
        host, port = bad.peers.listening
        town.doors[bad.incarnation] = doors.Door(bad.incarnation, host, port, b"s", ("registry",))
        active = await town.node(towns.Shop())
        epoch = await active.take()
        caller = await town.node()
        assert await caller.call() == ["billing", epoch]
        assert await caller.resolver.broadcast("service:billing", "balance", b"\x80")
        assert caller.resolver.home is None
        good = await town.registry()
        await town.until(lambda: caller.resolver.home == good.address)

    lived(scenario)
