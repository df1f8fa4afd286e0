"""Two deployments, as on two machines, work on one database that coordinates them, too: they share the work, and one's death.

Where the database is all that they share, its outage takes everything away at once: nobody is taken for dead by it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults import breaking, load
from tests.faults.conftest import Measured
from tests.faults.deployment import Deployment, boot

SLOTS = 10
HELD = 4
"""Jobs that are submitted at each machine."""
RESCUE_SECONDS = 3.0 + 3.0 + 1.0 + 2.0
"""The session, the lease, what is promised beyond, and the noise of a busy machine."""
PATIENCE_SECONDS = 20.0


@pytest.fixture
def store(victim: breaking.Victim) -> str:
    return victim.url


@pytest.fixture
async def other(deployment: Deployment, tmp_path: Path) -> AsyncIterator[Deployment]:
    notes = tmp_path / "other"
    notes.mkdir()
    made = deployment.beside(notes / "data", notes)
    try:
        yield made
    finally:
        await made.close()
        made.sweep()


def held_by(each: Deployment) -> set[str]:
    return {id for node in each.nodes("worker") for id in each.book.held_by(node.pid)}


def again(each: Deployment) -> set[str]:
    return {mark.id for mark in each.book.marks("began") if mark.fence == 2}


async def up(victim: breaking.Victim, *machines: Deployment) -> None:
    shared = ("--set", f"coordination.url={victim.url}")
    for each in machines:  # One after the other: on few cores, processes that start keep each other from it.
        await each.up(*shared, workers=1, slots=SLOTS)
    await asyncio.gather(*(each.hold(HELD) for each in machines))


@breaking.victims("mariadb", long=("postgresql", "galera-1"))
async def test_a_machine_is_gone_and_comes_back(
    deployment: Deployment, other: Deployment, victim: breaking.Victim, measured: Measured
):
    """Its jobs do not wait for it; when it is back, it finds nothing to answer for, and takes its share again."""
    await up(victim, deployment, other)
    gone, stays = sorted((deployment, other), key=lambda each: len(held_by(each)), reverse=True)
    lost, kept = held_by(gone), held_by(stays)
    nodes = stays.nodes()
    at = gone.kill_all()
    async with load.on(stays, flows=1):
        await stays.eventually(lambda: again(stays) == lost, PATIENCE_SECONDS)
    ran = max(mark.at for mark in stays.book.marks("began") if mark.fence == 2)
    measured(f"{victim.name}: a machine is gone to its jobs run on the other", (ran - at) / 1e9, RESCUE_SECONDS)
    assert stays.nodes() == nodes and held_by(stays) >= lost | kept

    await gone.up("--set", f"coordination.url={victim.url}", workers=1, slots=SLOTS)
    await gone.hold(1)
    gone.release()
    jobs = await stays.finished()
    assert {(job.state, job.attempts) for job in jobs} == {("completed", 1)}
    assert {job.id for job in jobs if job.deaths} == lost
    assert not (await stays.verdict()).faults


@breaking.victims("mariadb", long=("postgresql",))
@pytest.mark.parametrize("seconds", [pytest.param(7, id="short"), pytest.param(60, id="minute", marks=pytest.mark.long)])
async def test_an_outage_of_store_and_coordination_at_once_expires_nothing(
    deployment: Deployment, other: Deployment, victim: breaking.Victim, seconds: int
):
    await up(victim, deployment, other)
    nodes = [each.nodes() for each in (deployment, other)]
    await asyncio.to_thread(victim.break_, "kill")
    away = boot()
    await deployment.eventually(lambda: boot() > away + seconds * 1e9, seconds + 10)
    await asyncio.to_thread(victim.mend)
    back = await asyncio.to_thread(breaking.back, victim.bare)
    await deployment.eventually(lambda: boot() > back + RESCUE_SECONDS * 1e9, RESCUE_SECONDS + 10)
    assert [each.nodes() for each in (deployment, other)] == nodes
    await breaking.judged(deployment)
