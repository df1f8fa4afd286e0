"""Two servers on one store and one coordination: one goes silent as a whole, and its jobs run on the other one.

And where nobody is silent, nobody's claims end: while coordination is away, and when the controllers themselves die.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from callboard.node import layout
from callboard.testing.engines import zookeeper as zookeepers
from tests.faults import breaking, load
from tests.faults.conftest import Measured
from tests.faults.deployment import Deployment, Node, boot

SLOTS = 10
HELD = 4
"""Jobs that are submitted at each server, where they run, most likely: its own workers hear of them first."""
SESSION_SECONDS = 3.0
LEASE_SECONDS = 3.0
PROMISED_SECONDS = SESSION_SECONDS + LEASE_SECONDS + 1.0
NOISE_SECONDS = 2.0
"""Of a busy machine, on top of what is promised."""
PATIENCE_SECONDS = 20.0


@pytest.fixture
def store(victim: breaking.Victim) -> str:
    return victim.url


@pytest.fixture
def gateways() -> int:
    """How many stand for the office at each server."""
    return 1


@pytest.fixture
async def servers(
    deployment: Deployment, zookeeper: zookeepers.Ensemble, tmp_path: Path, gateways: int
) -> AsyncIterator[tuple[Deployment, Deployment]]:
    """Two servers that share a store and coordination."""
    notes = tmp_path / "other"
    notes.mkdir()
    other = deployment.beside(notes / "data", notes)
    options = ["--set", f"coordination.url={zookeeper.url(f'/{tmp_path.name}')}"]
    try:
        for each in (deployment, other):  # One after the other: on few cores, processes that start keep each other from it.
            await each.up(*options, workers=1, slots=SLOTS, gateways=gateways)
        yield deployment, other
    finally:
        await other.close()
        other.sweep()


async def held(servers: tuple[Deployment, Deployment], kind: str = "hold", **args: object) -> None:
    await asyncio.gather(*(each.hold(HELD, kind, **args) for each in servers))


def held_by(each: Deployment) -> set[str]:
    return {id for node in each.nodes("worker") for id in each.book.held_by(node.pid)}


def again(each: Deployment) -> set[str]:
    """The jobs that began under their second claim."""
    return {mark.id for mark in each.book.marks("began") if mark.fence == 2}


def by_load(servers: tuple[Deployment, Deployment]) -> list[Deployment]:
    """The one that holds the most jobs first; the other one has slots for them."""
    return sorted(servers, key=lambda each: len(held_by(each)), reverse=True)


def controllers(each: Deployment) -> list[Node]:
    """Return the nodes of a server that say that they hold an office of a domain controller."""
    place = layout.Layout(each.data)
    told = [layout.entry(found) for found in place.sessions().entries(layout.NODES)]
    holding = {
        entry.pid for entry in told if entry for role in entry.roles if role["role"] == "domain-controller" and role["active"]
    }
    return [node for node in each.nodes("gateway") if node.pid in holding]


@breaking.victims("mariadb", long=("postgresql", "galera-1"))
async def test_the_jobs_of_a_dead_server_run_on_the_other(
    servers: tuple[Deployment, Deployment], victim: breaking.Victim, measured: Measured
):
    await held(servers)
    gone, stays = by_load(servers)
    lost, kept = held_by(gone), held_by(stays)
    at = gone.kill_all()
    await stays.eventually(lambda: again(stays) == lost, PATIENCE_SECONDS)
    ran = max(mark.at for mark in stays.book.marks("began") if mark.fence == 2)
    what = f"{victim.name}: a whole server is killed to its jobs run elsewhere, of which {LEASE_SECONDS:g} s are the lease"
    measured(what, (ran - at) / 1e9, PROMISED_SECONDS + NOISE_SECONDS)
    assert held_by(stays) == lost | kept
    stays.release()
    assert {(job.state, job.attempts) for job in await stays.finished()} == {("completed", 1)}
    assert not (await stays.verdict()).faults


@breaking.victims("mariadb", long=("postgresql",))
async def test_a_frozen_server_that_wakes_up_changes_nothing(
    servers: tuple[Deployment, Deployment], victim: breaking.Victim, measured: Measured
):
    """Its jobs have ended elsewhere; its own handlers come to their end, too, and what they say is refused."""
    await held(servers, "hold_thread", stubborn=True)
    frozen, stays = by_load(servers)
    lost = held_by(frozen)
    pids = {node.pid for node in frozen.nodes("worker")}
    at = frozen.freeze_all()
    await stays.eventually(lambda: again(stays) == lost, PATIENCE_SECONDS)
    ran = max(mark.at for mark in stays.book.marks("began") if mark.fence == 2)
    measured(
        f"{victim.name}: a whole server is frozen to its jobs run elsewhere", (ran - at) / 1e9, PROMISED_SECONDS + NOISE_SECONDS
    )
    stays.release()
    await stays.finished()
    frozen.thaw_all()
    await stays.eventually(lambda: {mark.id for mark in stays.book.marks("ended") if mark.pid in pids} == lost)
    async with load.on(frozen) as seen:  # It works again, and so it has heard.
        await stays.eventually(load.more(seen, 20))
    jobs = {job.id: job for job in await stays.finished()}
    assert {(jobs[id].state, jobs[id].fence, jobs[id].result, jobs[id].deaths) for id in lost} == {("completed", 2, 2, 1)}
    assert not (await stays.verdict()).faults


@breaking.victims("mariadb")
@pytest.mark.parametrize("seconds", [pytest.param(8, id="short"), pytest.param(20, marks=pytest.mark.long)])
async def test_while_coordination_is_away_nothing_expires(
    servers: tuple[Deployment, Deployment], zookeeper: zookeepers.Ensemble, seconds: int
):
    """Longer than session and lease together; nor does anything when it is back."""
    await held(servers)
    nodes = [each.nodes() for each in servers]
    await asyncio.to_thread(zookeeper.stop)
    away = boot()
    await servers[0].eventually(lambda: boot() > away + seconds * 1e9, seconds + 1)
    await asyncio.to_thread(zookeeper.start)
    back = boot()
    await servers[0].eventually(lambda: boot() > back + PROMISED_SECONDS * 1e9, PROMISED_SECONDS + 1)
    await servers[0].eventually(lambda: len(controllers(servers[0]) + controllers(servers[1])) == 1, PATIENCE_SECONDS)
    assert [each.nodes() for each in servers] == nodes
    await breaking.judged(servers[0])


@breaking.victims("mariadb", long=("postgresql",))
@pytest.mark.parametrize("gateways", [2])
async def test_the_next_controller_goes_on(servers: tuple[Deployment, Deployment], measured: Measured):
    """The one in office dies while it counts, and the next one after it: the server that is gone is found out all the same."""
    await servers[0].eventually(lambda: len(controllers(servers[0]) + controllers(servers[1])) == 1, PATIENCE_SECONDS)
    stays = next(each for each in servers if controllers(each))
    gone = next(each for each in servers if each is not stays)
    while not held_by(gone):
        await held(servers)
    lost, died = held_by(gone), gone.kill_all()
    await stays.eventually(lambda: boot() > died + SESSION_SECONDS * 1e9)
    at = stays.kill(controllers(stays)[0].pid)
    await stays.eventually(lambda: again(stays) >= lost, PATIENCE_SECONDS)
    ran = max(mark.at for mark in stays.book.marks("began") if mark.id in lost and mark.fence == 2)
    measured(
        "the controller in office is killed while it counts, to the jobs run", (ran - at) / 1e9, PROMISED_SECONDS + NOISE_SECONDS
    )
    stays.release()
    assert {(job.state, job.attempts) for job in await stays.finished()} == {("completed", 1)}
    assert not (await stays.verdict()).faults
