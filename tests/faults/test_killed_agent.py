"""The agent is killed: its nodes go on working, and the next one takes over them and what has died meanwhile."""

from __future__ import annotations

import json

from callboard import errors
from callboard.cli import exits
from tests.faults import breaking
from tests.faults.deployment import Deployment

pytestmark = breaking.stores()


async def test_a_second_agent_is_refused(deployment: Deployment):
    await deployment.up(workers=1)
    before = deployment.nodes()
    second = await deployment.run("up", "ledger:app", "--port", str(deployment.port + 10))
    assert second.code == exits.Exit.STARTUP
    assert errors.AlreadyRunning.code in second.err and len(second.err.splitlines()) == 1
    assert deployment.nodes() == before
    await deployment.submit("nap")
    assert not (await deployment.finished())[0].errors


async def test_nodes_outlive_their_agent_and_the_next_one_adopts_them(deployment: Deployment):
    await deployment.up(workers=2)
    held = await deployment.hold(4)
    before = deployment.nodes()
    assert deployment.agent
    deployment.kill(deployment.agent.pid)
    deployment.agent.wait()

    naps = await deployment.submit("nap", 20)
    for id in naps:
        assert (await deployment.client.wait(id, 10)).state == "completed"
    assert deployment.nodes() == before

    started = await deployment.up(workers=2)
    assert started["adopted"] == 3 and deployment.nodes() == before
    assert not deployment.book.marks("left") and set(held) == {id for node in before for id in deployment.book.held_by(node.pid)}
    deployment.release()
    jobs = await deployment.finished()
    assert {(job.state, job.attempts, job.deaths, job.fence) for job in jobs} == {("completed", 1, 0, 1)}
    verdict = await deployment.verdict()
    assert not verdict.faults and not verdict.repeated


async def test_jobs_of_a_worker_that_died_without_an_agent_run_after_the_next_start(deployment: Deployment):
    await deployment.up(workers=2)
    await deployment.hold(4)
    assert deployment.agent
    deployment.kill(deployment.agent.pid)
    deployment.agent.wait()
    victim, held = deployment.busiest()
    deployment.kill(victim.pid)

    started = await deployment.up(workers=2)
    assert started["adopted"] == 2
    await deployment.eventually(lambda: deployment.book.elsewhere(held, victim.pid).keys() == held)
    deployment.release()
    jobs = await deployment.finished()
    assert {(job.state, job.attempts) for job in jobs} == {("completed", 1)}
    assert {job.id for job in jobs if job.deaths} == held
    assert not (await deployment.verdict()).faults


async def test_down_ends_what_a_dead_agent_left(deployment: Deployment):
    await deployment.up("--set", "worker.grace_seconds=0.3", workers=1)
    await deployment.hold(1)
    assert deployment.agent
    deployment.kill(deployment.agent.pid)
    deployment.agent.wait()
    stopped = await deployment.run("down", "--json")
    assert stopped.code == exits.Exit.OK
    assert json.loads(stopped.out) == {"agent": False, "orphans": 2, "killed": 0}
    assert not deployment.nodes()
