"""A database is killed, frozen, stopped, and comes back, while jobs are submitted and run: work goes on by itself.

Nothing that was acknowledged is lost, no job runs twice, no node is taken for dead, however long it takes.
"""

from __future__ import annotations

import asyncio
import json

import pytest

from callboard import errors
from callboard.cli import exits
from tests.faults import breaking, load
from tests.faults.conftest import Measured
from tests.faults.deployment import Deployment, boot

PROMISED_SECONDS = 5.0
START_SECONDS = 4.0
"""What a node needs to start, on a busy machine."""
AWAY_SECONDS = 1.0
"""How long a broken server stays so."""
REPLACED_SECONDS = 1.0 + 3.0
"""Where others of a cluster take over, after a bare connection can write there; three of them for the noise of busy machines."""
FLAP_SECONDS = 0.25
"""The same for one that comes and goes."""


@pytest.fixture
def store(victim: breaking.Victim) -> str:
    return victim.url


@breaking.victims(
    "mariadb", "postgresql", long=("galera-1", "galera-2", "galera-3", "zookeeper-member", "zookeeper-leader", "zookeeper-all")
)
async def test_work_goes_on_by_itself(deployment: Deployment, victim: breaking.Victim, measured: Measured):
    await deployment.up()
    nodes = deployment.nodes()
    await deployment.hold(4)
    async with load.on(deployment) as seen:
        for how in ("kill", "freeze", "restart"):
            await deployment.eventually(load.more(seen, 20))
            await asyncio.to_thread(victim.break_, how)
            await _mended(deployment, victim, how, AWAY_SECONDS, measured)
            assert deployment.nodes() == nodes
    await breaking.judged(deployment)


@breaking.victims("galera-1")
@pytest.mark.parametrize("how", ["freeze"])
async def test_another_node_is_written(deployment: Deployment, victim: breaking.Victim, how: breaking.How, measured: Measured):
    """The one that all write at does not answer: the cluster goes on without it after a moment, and so does all work."""
    await deployment.up()
    nodes = deployment.nodes()
    await deployment.hold(4)
    async with load.on(deployment) as seen:
        await deployment.eventually(load.more(seen, 20))
        await asyncio.to_thread(victim.break_, how)
        await _mended(deployment, victim, how, AWAY_SECONDS, measured)
    assert deployment.nodes() == nodes
    await breaking.judged(deployment)


@breaking.victims(
    "mariadb", "postgresql", long=("galera-1", "galera-2", "galera-3", "zookeeper-member", "zookeeper-leader", "zookeeper-all")
)
@pytest.mark.parametrize("times", [pytest.param(2, id="few"), pytest.param(20, id="twenty", marks=pytest.mark.long)])
async def test_flaps(deployment: Deployment, victim: breaking.Victim, times: int, measured: Measured):
    """It comes and goes: killed and started again so many times, and frozen as many times."""
    await deployment.up()
    nodes = deployment.nodes()
    await deployment.hold(4)
    async with load.on(deployment) as seen:
        for how in ("kill", "freeze"):
            await deployment.eventually(load.more(seen, 20))
            for _ in range(times - 1):
                await asyncio.to_thread(victim.break_, how)
                await asyncio.sleep(FLAP_SECONDS)
                await asyncio.to_thread(victim.mend)
                await asyncio.sleep(FLAP_SECONDS)
            await asyncio.to_thread(victim.break_, how)
            await _mended(deployment, victim, f"{how} {times} times", FLAP_SECONDS, measured)
    assert deployment.nodes() == nodes
    await breaking.judged(deployment)


@breaking.victims("mariadb", "postgresql", "zookeeper-all")
@pytest.mark.parametrize("how", ["kill", pytest.param("freeze", marks=pytest.mark.long)])
@pytest.mark.parametrize("seconds", [pytest.param(4, id="short"), pytest.param(60, id="minute", marks=pytest.mark.long)])
async def test_an_outage_expires_nothing(
    deployment: Deployment, victim: breaking.Victim, how: breaking.How, seconds: int, measured: Measured
):
    """Jobs that ran before it run on; those that end meanwhile have their results stored after it."""
    await deployment.up()
    nodes = deployment.nodes()
    held = await deployment.hold(3)
    stay = deployment.gate.with_name("second gate")
    longer = await deployment.submit("hold_thread", 3, gate=str(stay))
    await deployment.eventually(lambda: deployment.book.ids("began").issuperset(longer))
    await asyncio.to_thread(victim.break_, how)
    away = boot()
    deployment.release()
    await deployment.eventually(lambda: deployment.book.ids("ended") == set(held))
    async with load.on(deployment) as seen:
        await deployment.eventually(lambda: seen.refused and boot() > away + seconds * 1e9, seconds + 10)
        assert not seen.acknowledged
        assert deployment.nodes() == nodes
        await _mended(deployment, victim, f"{how} for {seconds} s", 0, measured)
    stay.touch()
    assert deployment.nodes() == nodes
    await breaking.judged(deployment)


@breaking.victims("mariadb", long=("postgresql", "zookeeper-all"))
@pytest.mark.parametrize("seconds", [pytest.param(3, id="short"), pytest.param(45, id="long", marks=pytest.mark.long)])
async def test_workers_that_die_in_an_outage_are_replaced_after_it(
    deployment: Deployment, victim: breaking.Victim, seconds: int, measured: Measured
):
    """New ones cannot start before it is over, and are tried again often enough; the jobs of the dead run again."""
    await deployment.up(workers=1)
    held = await deployment.hold(2)
    (worker,) = deployment.nodes("worker")
    await asyncio.to_thread(victim.break_, "kill")
    away = deployment.kill(worker.pid)
    await deployment.eventually(lambda: boot() > away + seconds * 1e9, seconds + 10)
    await asyncio.to_thread(victim.mend)
    back = await asyncio.to_thread(breaking.back, victim.bare)
    await deployment.eventually(lambda: deployment.book.elsewhere(held, worker.pid).keys() == set(held), 20)
    again = max(deployment.book.elsewhere(held, worker.pid).values())
    measured(f"{victim.name}: back to jobs of the dead run again", (again - back) / 1e9, PROMISED_SECONDS + START_SECONDS)
    deployment.release()
    jobs = await deployment.finished()
    assert {(job.state, job.attempts, job.deaths, job.fence) for job in jobs} == {("completed", 1, 1, 2)}
    assert not (await deployment.verdict()).faults


@pytest.mark.long
@breaking.victims("mariadb", "postgresql", "zookeeper-all")
async def test_down_while_it_is_frozen(deployment: Deployment, victim: breaking.Victim):
    """It ends all the same, and kills nobody; what it could not say runs again after the next start."""
    await deployment.up()
    await deployment.hold(2)
    await asyncio.to_thread(victim.break_, "freeze")
    stopped = await deployment.run("down", "--grace", "1", "--json")
    assert (stopped.code, json.loads(stopped.out)["killed"]) == (0, 0)
    assert not deployment.nodes()
    deployment.killed |= {mark.pid for mark in deployment.book.marks()}
    await asyncio.to_thread(victim.mend)
    deployment.release()
    await deployment.up()
    assert {job.state for job in await deployment.finished()} == {"completed"}
    assert not (await deployment.verdict()).faults


@pytest.mark.long
@breaking.victims("mariadb", "postgresql")
async def test_read_only_for_a_while(deployment: Deployment, victim: breaking.Victim):
    """Told in a line to whoever submits; work goes on when it lets itself be written again."""
    await deployment.up()
    held = await deployment.hold(2)
    await asyncio.to_thread(victim.set_read_only, True)
    await asyncio.sleep(AWAY_SECONDS)
    refused = await deployment.run("submit", "ledger.nap")
    assert (refused.code, refused.out, refused.err.count("\n")) == (exits.Exit.STARTUP, "", 1), refused
    assert "read-only" in refused.err and errors.StoreUnfit.code in refused.err
    deployment.release()
    await deployment.eventually(lambda: deployment.book.ids("ended") == set(held))
    await asyncio.to_thread(victim.set_read_only, False)
    await deployment.submit("nap")
    await breaking.judged(deployment)


async def _mended(deployment: Deployment, victim: breaking.Victim, how: str, seconds: float, measured: Measured) -> None:
    """Mend it after some seconds; measure from when a bare connection could write: at once, where others go on without it."""
    broken = boot()
    if victim.replaced:
        back = await breaking.works_again(deployment, victim.bare, f"{victim.name}: {how}", REPLACED_SECONDS, measured)
        print(f"{victim.name}: {how}, the cluster needed {(back - broken) / 1e9:.2f} s")
    await asyncio.sleep(seconds)
    mending = asyncio.create_task(asyncio.to_thread(victim.mend))
    if not victim.replaced:
        await breaking.works_again(deployment, victim.bare, f"{victim.name}: {how}", PROMISED_SECONDS, measured)
    await mending
