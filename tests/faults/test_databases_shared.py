"""Two deployments, as on two machines, work on one database: they share the work, and each answers for its own nodes alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from callboard.jobs import engines, model
from tests.faults import breaking, load
from tests.faults.conftest import Measured
from tests.faults.deployment import Deployment, boot

SLOTS = 5
HELD = 8
SWEEPS_SECONDS = 6.0
"""Longer than an agent takes to look once for claims of its own dead."""
RESCUE_SECONDS = 10.0
"""With the start of the agent."""


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


@breaking.victims("mariadb", long=("postgresql", "galera-1"))
async def test_a_machine_is_gone_until_it_comes_back(
    deployment: Deployment, other: Deployment, victim: breaking.Victim, measured: Measured
):
    await asyncio.gather(*(each.up(workers=1, slots=SLOTS) for each in (deployment, other)))
    await deployment.hold(HELD)
    gone, stays = sorted((deployment, other), key=lambda each: len(held_by(each)), reverse=True)
    lost, kept = held_by(gone), held_by(stays)
    assert len(lost) + len(kept) == HELD and lost and kept
    nodes = stays.nodes()
    at = gone.kill_all()
    async with load.on(stays, flows=1):
        await stays.eventually(lambda: boot() > at + SWEEPS_SECONDS * 1e9)
    assert stays.nodes() == nodes and held_by(stays) == kept
    assert states(victim.url, lost) == {model.State.RUNNING}

    at = boot()
    await gone.up(workers=1, slots=SLOTS)
    await gone.eventually(lambda: {mark.id for mark in gone.book.marks("began") if mark.fence == 2} == lost)
    measured(f"{victim.name}: its agent is back to its jobs run again", (boot() - at) / 1e9, RESCUE_SECONDS)
    deployment.release()
    jobs = await stays.finished()
    assert {(job.state, job.attempts) for job in jobs} == {("completed", 1)}
    assert {job.id for job in jobs if job.deaths} == lost
    assert not (await stays.verdict()).faults


def states(url: str, ids: set[str]) -> set[model.State]:
    """Return the states of some jobs, as the store has them."""
    store = engines.open(url)
    try:
        found = store.get([("main", bytes.fromhex(id.replace("-", ""))) for id in ids])
        return {job.state for job in found if job is not None}
    finally:
        store.close()
