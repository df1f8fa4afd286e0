"""Those who know the names die: whoever knows a name goes on, and new names are found all the same."""

from __future__ import annotations

from tests.faults.conftest import Measured
from tests.faults.deployment import boot
from tests.faults.naming import Named


async def test_one_registry_is_killed(named: Named, coordination: str, measured: Measured):
    """The one that this process has its news from."""
    _, epoch = await named.settled()
    await named.eventually(lambda: named.names.home)
    home = named.names.home
    assert home is not None
    victim = next(node for node in named.nodes("registry") if node.incarnation == home.incarnation)
    async with named.callers() as billing, named.callers("cache") as cache:
        killed = named.kill(victim.pid)
        found = await named.call("who", "billing@after-one")
        again = (boot() - killed) / 1e9
        await named.eventually(lambda: named.names.home not in (None, home))
        after = boot()
        await named.eventually(lambda: billing.asked_after(after) and cache.asked_after(after))
    assert not billing.failures and not cache.failures and not named.faults()
    assert billing.epochs() == {epoch} == {found["epoch"]}
    measured(f"{coordination}: a registry killed, a new name found", again, 3)
    measured(f"{coordination}: a registry killed, known names", max(billing.longest_gap, cache.longest_gap), 3)


async def test_all_registries_are_killed(named: Named, coordination: str, measured: Measured):
    """New names are found by asking the nodes, while the agent is held up and starts no registry; then it does."""
    active, epoch = await named.settled()
    assert named.agent
    async with named.callers() as billing, named.callers("cache") as cache:
        named.freeze(named.agent.pid)
        dead = {node.pid for node in named.nodes("registry")}
        killed = max(named.kill(pid) for pid in dead)
        found = await named.call("who", "billing@after-all")
        again = (boot() - killed) / 1e9
        assert found == {"pid": active.pid, "epoch": epoch}
        assert (await named.names.lookup("cache@after-all")).instances
        await named.eventually(lambda: billing.asked_after(killed) and cache.asked_after(killed))
        named.wake()
        await named.eventually(lambda: len({node.pid for node in named.nodes("registry")} - dead) == 2, 20)
        await named.eventually(lambda: named.names.home is not None)
        after = boot()
        await named.eventually(lambda: billing.asked_after(after) and cache.asked_after(after))
    assert not billing.failures and not cache.failures and not named.faults()
    assert billing.epochs() == {epoch}
    measured(f"{coordination}: all registries killed, a new name found", again, 3)
    measured(f"{coordination}: all registries killed, known names", max(billing.longest_gap, cache.longest_gap), 3)
