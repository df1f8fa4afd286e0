"""A worker is killed while it runs jobs: they run elsewhere at once, and end once."""

from __future__ import annotations

from tests.faults import breaking
from tests.faults.conftest import Measured
from tests.faults.deployment import START_SECONDS, Deployment, Node

pytestmark = breaking.stores()

PROMISED_SECONDS = 1.0
NOISE_SECONDS = 4.0


async def test_jobs_of_a_killed_worker_run_again_at_once(deployment: Deployment, measured: Measured):
    await deployment.up(workers=2, slots=8)
    await deployment.hold(4)
    await deployment.hold(2, "hold_thread")
    await deployment.hold(2, "hold_process")
    async with deployment.traffic():
        victim, held = deployment.busiest()
        at = deployment.kill(victim.pid)
        await deployment.eventually(lambda: deployment.book.elsewhere(held, victim.pid).keys() == held)
    again = max(deployment.book.elsewhere(held, victim.pid).values())
    measured("killed to running again", (again - at) / 1e9, PROMISED_SECONDS + NOISE_SECONDS)
    deployment.release()
    jobs = await deployment.finished()
    assert {(job.state, job.attempts) for job in jobs} == {("completed", 1)}
    assert {job.id for job in jobs if job.deaths} == held | {job.id for job in jobs if job.fence > 1}
    verdict = await deployment.verdict()
    assert not verdict.faults
    assert held <= set(verdict.repeated)


async def test_each_child_is_killed_in_turn_while_work_goes_on(deployment: Deployment):
    await deployment.up(workers=2, gateways=2, slots=8)
    holds = set(await deployment.hold(4))
    for victim in deployment.nodes():
        if victim.role == "worker" and not holds & deployment.book.held_by(victim.pid):
            holds.update(await deployment.hold(9))  # More than the other worker can take.
        await _kill_and_replace(deployment, victim)
    deployment.release()
    jobs = await deployment.finished()
    assert {(job.state, job.attempts) for job in jobs} == {("completed", 1)}
    assert not (await deployment.verdict()).faults


async def _kill_and_replace(deployment: Deployment, victim: Node) -> None:
    async with deployment.traffic() as acknowledged:
        at = deployment.kill(victim.pid)
        await deployment.eventually(lambda: deployment.dead(victim.pid))
        held = deployment.book.held_by(victim.pid)  # Read now: what ended just before its death runs nowhere again.
        assert held or victim.role == "gateway"
        await deployment.eventually(lambda: deployment.book.elsewhere(held, victim.pid).keys() >= held)
        await deployment.eventually(lambda: victim not in deployment.nodes() and len(deployment.nodes()) == 4, START_SECONDS)
        await deployment.eventually(lambda: acknowledged and acknowledged[-1] > at)
