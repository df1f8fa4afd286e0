"""Three machines: at the first one web front-ends, which reach the ensemble through a load balancer, at the others workers.

Each of the ensemble's servers is taken down in turn, for maintenance, and nobody who submits or waits notices more than a pause.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from callboard.testing.engines import haproxy
from callboard.testing.engines import zookeeper as zookeepers
from tests.conftest import INSTALL
from tests.faults import breaking, load
from tests.faults.deployment import Deployment, longest_gap

MACHINES = 3
PATIENCE_SECONDS = 20.0


@pytest.fixture
def balancer(zookeeper: zookeepers.Ensemble) -> Iterator[haproxy.HaProxy]:
    if reason := haproxy.installed():
        pytest.skip(f"needs HAProxy ({reason}): {INSTALL}")
    with haproxy.HaProxy([member.port for member in zookeeper.members], "zookeeper") as proxy:
        yield proxy


@pytest.fixture
def direct(zookeeper: zookeepers.Ensemble) -> str:
    """The store's URL with all servers."""
    return zookeeper.url(f"/maintained-{time.time_ns()}")


@pytest.fixture
def store(balancer: haproxy.HaProxy, direct: str) -> str:
    """The store's URL for the first machine."""
    return balancer.url(direct)


@pytest.fixture
async def workers(deployment: Deployment, direct: str, tmp_path: Path) -> AsyncIterator[list[Deployment]]:
    """The other machines."""
    made = []
    for number in range(1, MACHINES):
        notes = tmp_path / f"machine-{number}"
        notes.mkdir()
        made.append(deployment.beside(notes / "data", notes))
        made[-1].store = direct
    try:
        yield made
    finally:
        for each in made:
            await each.close()
            each.sweep()


@pytest.mark.parametrize("times", [pytest.param(1, id="once"), pytest.param(5, id="often", marks=pytest.mark.long)])
async def test_each_server_is_taken_down_in_turn(
    deployment: Deployment, workers: list[Deployment], zookeeper: zookeepers.Ensemble, times: int, record_property
):
    await asyncio.gather(deployment.up(workers=0, gateways=2), *(each.up(workers=1) for each in workers))
    nodes = [each.nodes() for each in (deployment, *workers)]
    await deployment.hold(6)
    async with load.on(deployment) as seen:
        for member in zookeeper.members * times:
            await deployment.eventually(load.more(seen, 20))
            await asyncio.to_thread(member.stop)
            await deployment.eventually(load.more(seen, 20), PATIENCE_SECONDS)
            await asyncio.to_thread(zookeeper.start)
        await deployment.eventually(load.more(seen, 20))
    pause = longest_gap(seen.acknowledged)
    record_property("figure", f"each server taken down: longest pause {pause:.2f} s, tries refused {dict(seen.refused)}")
    assert [each.nodes() for each in (deployment, *workers)] == nodes
    await breaking.judged(deployment)
