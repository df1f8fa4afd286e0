"""ZooKeeper loses its leader, or is gone altogether: names go on for as long as that is safe, and come back by themselves."""

from __future__ import annotations

import asyncio

import pytest

from callboard import errors
from callboard.testing.engines import zookeeper as zookeepers
from tests.faults.conftest import Measured
from tests.faults.deployment import boot
from tests.faults.naming import Named

pytestmark = pytest.mark.parametrize("coordination", ["zookeeper"], indirect=True, scope="session")
SAFE_NS = 2_000_000_000
"""Two thirds of the session time, of which the ensemble grants all: how long an office is exercised after the last
confirmation."""
PATIENCE_SECONDS = 0.3
"""Of callers who want to hear why nobody answers."""


@pytest.mark.parametrize("victim", ["leader", "follower"])
async def test_a_server_is_killed(named: Named, zookeeper: zookeepers.Ensemble, measured: Measured, victim: str):
    _, epoch = await named.settled()
    async with named.callers() as billing, named.callers("cache") as cache:
        await asyncio.to_thread(lambda: (zookeeper.leader() if victim == "leader" else zookeeper.followers()[0]).kill())
        # Past that only those accept who have confirmed through the others.
        safe_until = boot() + SAFE_NS
        await named.eventually(lambda: billing.asked_after(safe_until) and cache.asked_after(safe_until))
    assert not billing.failures and not cache.failures and not named.faults()
    assert billing.epochs() == {epoch}
    measured(f"zookeeper: its {victim} killed", max(billing.longest_gap, cache.longest_gap), 3)


@pytest.mark.parametrize("seconds", [6.0, pytest.param(30.0, marks=pytest.mark.long)])
async def test_all_of_it_is_stopped(named: Named, zookeeper: zookeepers.Ensemble, measured: Measured, seconds: float):
    await named.settled()
    living = named.nodes()
    async with named.callers(timeout=PATIENCE_SECONDS) as billing, named.callers("cache") as cache, named.traffic(0.05):
        stopping = boot()
        await asyncio.to_thread(zookeeper.stop)
        stopped = boot()
        await named.eventually(lambda: billing.failures)
        last = billing.all()[-1].at
        await named.eventually(lambda: boot() > stopped + seconds * 1e9, seconds + 10)
        before = len(named.acknowledged)
        await named.finished()
        assert before > seconds / 0.2
        away = boot()
        await named.eventually(lambda: cache.asked_after(away))
        starting = boot()
        await asyncio.to_thread(zookeeper.start)
        await named.eventually(lambda: billing.asked_after(starting), 20)
        again = next(answer.at for answer in billing.all() if answer.asked > starting)
        after = boot()
        await named.eventually(lambda: cache.asked_after(after))
    await named.finished()
    assert not cache.failures and not billing.went_back() and not named.faults()
    assert not [line for line in named.lines() if line.accepted and stopped + SAFE_NS < line.at < starting]
    why = [failure for failure in billing.failures if failure.code == errors.LeaseUnconfirmed.code and failure.ran == "no"]
    assert len(why) > 0.8 * len(billing.failures), billing.failures  # On a busy machine the last try may come too late.
    assert named.nodes() == living
    measured("zookeeper: all of it stopped, active=one goes on", (last - stopping) / 1e9, 4)
    measured("zookeeper: all of it stopped, active=all", cache.longest_gap, 3)
    measured("zookeeper: all of it started again, active=one answers", (again - starting) / 1e9, 20)
