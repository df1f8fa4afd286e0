"""ZooKeeper loses its leader, or is gone altogether: names go on for as long as that is safe, and come back by themselves."""

from __future__ import annotations

import asyncio

import pytest

from callboard.testing.engines import zookeeper as zookeepers
from tests.faults import epochs, naming
from tests.faults.conftest import Measured

pytestmark = pytest.mark.parametrize(
    "coordination", [pytest.param("zookeeper", marks=pytest.mark.xdist_group("zookeeper"))], indirect=True, scope="session"
)
SAFE_SECONDS = 2.0
"""Two thirds of the session time, which is what the ensemble grants."""
OUT_OF_REACH = {"lease_unconfirmed"}


async def test_its_leader_is_killed(named: naming.Named, zookeeper: zookeepers.Ensemble, measured: Measured):
    _, epoch = await named.settled()
    async with named.callers() as billing, named.callers("cache") as cache:
        at = naming.boot()
        await asyncio.to_thread(lambda: zookeeper.leader().kill())
        # Past it nobody accepts who has not confirmed through the new leader.
        safe_until = at + round(SAFE_SECONDS * 1e9)
        await named.eventually(lambda: billing.asked_after(safe_until) and cache.asked_after(safe_until))
    assert not billing.failures and not cache.failures
    assert {answer.epoch for answer in billing.all()} == {epoch}
    assert not epochs.faults(named.lines())
    measured("zookeeper: its leader killed, callers", max(billing.longest_gap, cache.longest_gap), 1)


@pytest.mark.parametrize("seconds", [6.0, pytest.param(30.0, marks=pytest.mark.long)])
async def test_all_of_it_is_stopped(
    named: naming.Named, zookeeper: zookeepers.Ensemble, measured: Measured, seconds: float
):
    await named.settled()
    living = {node.pid for node in named.nodes()}
    async with named.callers(timeout=0.3) as billing, named.callers("cache") as cache, named.traffic(0.05):
        at = naming.boot()
        await asyncio.to_thread(zookeeper.stop)
        await named.eventually(lambda: billing.failures)
        last = max(answer.at for answer in billing.all())
        await named.eventually(lambda: naming.boot() > at + seconds * 1e9, seconds + 1)
        still = naming.boot()
        assert cache.asked_after(still - 10**9)
        await named.client.wait(named.acknowledged[-1], 5)
        starting = naming.boot()
        await asyncio.to_thread(zookeeper.start)
        back = naming.boot()
        await named.eventually(lambda: billing.asked_after(starting), 15)
        resumed = naming.boot()
        await named.eventually(lambda: cache.asked_after(resumed))
    await named.finished()
    assert not cache.failures
    print([(f.code, f.ran, (f.asked-at)/1e9, (f.at-f.asked)/1e9) for f in billing.failures])
    assert {failure.code for failure in billing.failures} == OUT_OF_REACH
    assert all(failure.ran == "no" for failure in billing.failures)
    assert {node.pid for node in named.nodes()} == living
    assert not billing.went_back() and not epochs.faults(named.lines())
    measured("zookeeper: all of it stopped, active=one goes on", (last - at) / 1e9, SAFE_SECONDS + 0.3)
    measured("zookeeper: all of it stopped, active=all waits", cache.longest_gap, 1)
    measured("zookeeper: all of it is back, active=one answers", (resumed - back) / 1e9, 10)
