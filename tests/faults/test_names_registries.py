"""Those who know the names die: whoever knows a name goes on, and new names are found all the same."""

from __future__ import annotations

from tests.faults import epochs, naming
from tests.faults.conftest import Measured


async def test_one_registry_is_killed(named: naming.Named, coordination: str, measured: Measured):
    """The one that this process has its news from."""
    await named.settled()
    home = named.names.home
    assert home is not None
    victim = next(node for node in named.nodes("registry") if node.incarnation == home.incarnation)
    async with named.callers() as billing, named.callers("cache") as cache:
        at = named.kill(victim.pid)
        found = await named.call("who", "billing@after-one")
        again = (naming.boot() - at) / 1e9
        await named.eventually(lambda: named.names.home not in (None, home))
        after = naming.boot()
        await named.eventually(lambda: billing.asked_after(after) and cache.asked_after(after))
    assert not billing.failures and not cache.failures
    assert {answer.epoch for answer in billing.all()} == {found["epoch"]}
    measured(f"{coordination}: registry killed, a new name is found", again, 3)
    measured(f"{coordination}: registry killed, callers of known names", max(billing.longest_gap, cache.longest_gap), 1)


async def test_all_registries_are_killed(named: naming.Named, coordination: str, measured: Measured):
    """New names are found by asking the nodes, also while the agent is held up and starts no registry anew."""
    active, epoch = await named.settled()
    assert named.agent
    async with named.callers() as billing, named.callers("cache") as cache:
        named.freeze(named.agent.pid)
        registries = {named.kill(node.pid): node.pid for node in named.nodes("registry")}
        assert len(registries) == 2
        found = await named.call("who", "billing@after-all")
        again = (naming.boot() - max(registries)) / 1e9
        assert found == {"pid": active.pid, "epoch": epoch}
        assert (await named.names.lookup("cache@after-all")).instances
        await named.eventually(lambda: billing.asked_after(max(registries)) and cache.asked_after(max(registries)))
        named.wake()
        await named.eventually(lambda: len({node.pid for node in named.nodes("registry")} - set(registries.values())) == 2)
        await named.eventually(lambda: named.names.home is not None)
        restarted = naming.boot()
        await named.eventually(lambda: billing.asked_after(restarted) and cache.asked_after(restarted))
    assert not billing.failures and not cache.failures
    assert {answer.epoch for answer in billing.all()} == {epoch}
    assert not epochs.faults(named.lines())
    measured(f"{coordination}: all registries killed, a new name is found", again, 3)
    measured(f"{coordination}: all registries killed, callers of known names", max(billing.longest_gap, cache.longest_gap), 1)
