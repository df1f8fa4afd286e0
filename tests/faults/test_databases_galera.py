"""A cluster loses its majority, or all of itself, under load: what was acknowledged is there when it is back."""

from __future__ import annotations

import asyncio

import pytest

from callboard.testing.engines import galera as galeras
from callboard.testing.engines import servers
from tests.faults import breaking, load
from tests.faults.conftest import Measured
from tests.faults.deployment import Deployment

PROMISED_SECONDS = 5.0
AWAY_SECONDS = 1.0
NOTICE_SECONDS = 20.0


@pytest.fixture
def store(galera_database: str) -> str:
    return breaking.probed(galera_database)


def stopped(member: galeras.Member) -> bool:
    """Whether it says that it goes on no more."""
    return member.status().get("wsrep_cluster_status", "Primary") != "Primary"


@pytest.mark.parametrize("survivor", [2, pytest.param(0, marks=pytest.mark.long), pytest.param(1, marks=pytest.mark.long)])
async def test_two_of_three_are_killed(
    deployment: Deployment, galera: galeras.Cluster, store: str, survivor: int, measured: Measured
):
    """The third one stops too, until somebody tells it to go on alone; then the others come back."""
    await deployment.up()
    nodes = deployment.nodes()
    await deployment.hold(4)
    async with load.on(deployment) as seen:
        await deployment.eventually(load.more(seen, 20))
        await asyncio.to_thread(galera.kill, *(member for member in galera.members if member is not galera.members[survivor]))
        left = galera.members[survivor]
        await asyncio.to_thread(servers.wait_for, lambda: stopped(left), "the last one stops", NOTICE_SECONDS)
        telling = asyncio.create_task(asyncio.to_thread(galera.bootstrap))
        await breaking.works_again(deployment, store, "galera: two of three killed", PROMISED_SECONDS, measured)
        await telling
        await deployment.eventually(load.more(seen, 20))
        await asyncio.to_thread(galera.start)
        await deployment.eventually(load.more(seen, 20))
    assert deployment.nodes() == nodes
    await breaking.judged(deployment)


@pytest.mark.parametrize("times", [1, pytest.param(5, marks=pytest.mark.long)])
async def test_all_are_killed_at_once(
    deployment: Deployment, galera: galeras.Cluster, store: str, times: int, measured: Measured
):
    await deployment.up()
    nodes = deployment.nodes()
    await deployment.hold(4)
    async with load.on(deployment) as seen:
        for _ in range(times):
            await deployment.eventually(load.more(seen, 20))
            await asyncio.to_thread(galera.kill)
            await asyncio.sleep(AWAY_SECONDS)
            starting = asyncio.create_task(asyncio.to_thread(galera.start))
            await breaking.works_again(deployment, store, "galera: all killed", PROMISED_SECONDS, measured)
            await starting
    assert deployment.nodes() == nodes
    await breaking.judged(deployment)
