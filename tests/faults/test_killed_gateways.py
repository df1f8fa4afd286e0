"""A gateway is killed: a client that knows two goes on by itself, with what it submits and with what it waits for."""

from __future__ import annotations

import asyncio

from tests.faults import breaking
from tests.faults.conftest import Measured
from tests.faults.deployment import START_SECONDS, Deployment, Node, longest_gap

pytestmark = breaking.stores()

GAP_SECONDS = 3.0


async def test_a_client_goes_on_at_the_other_gateway(deployment: Deployment, measured: Measured):
    await deployment.up(workers=1, gateways=2)
    held = await deployment.hold(2)
    waits = [asyncio.create_task(deployment.client.wait(id, 3 * START_SECONDS)) for id in held]
    gaps = [await _kill_and_replace(deployment, victim) for victim in deployment.nodes("gateway")]
    measured("the longest pause between two acknowledgements", max(gaps), GAP_SECONDS)
    assert deployment.client.retries
    assert not any(wait.done() for wait in waits)
    deployment.release()
    assert {job.state for job in await asyncio.gather(*waits)} == {"completed"}
    jobs = await deployment.finished()
    assert {(job.state, job.attempts, job.deaths, job.fence) for job in jobs} == {("completed", 1, 0, 1)}
    verdict = await deployment.verdict()
    assert not verdict.faults and not verdict.repeated


async def _kill_and_replace(deployment: Deployment, victim: Node) -> float:
    async with deployment.traffic() as acknowledged:
        await deployment.eventually(lambda: acknowledged)
        at = deployment.kill(victim.pid)
        await deployment.eventually(lambda: acknowledged[-1] > at)
        await deployment.eventually(
            lambda: victim not in deployment.nodes() and len(deployment.nodes("gateway")) == 2, START_SECONDS
        )
    return longest_gap(acknowledged)
