"""Stopping loses nothing and counts nothing: what ends in its grace time is done, everything else is handed back."""

from __future__ import annotations

from callboard import errors
from callboard.cli import exits
from tests.faults import breaking
from tests.faults.deployment import Deployment

pytestmark = breaking.stores()


async def test_down_lets_running_handlers_end_and_hands_back_the_others(deployment: Deployment):
    await deployment.up("--set", "worker.grace_seconds=1.5", workers=2, slots=4)
    held = [
        *await deployment.hold(2),
        *await deployment.hold(1, "hold_thread"),
        *await deployment.hold(1, "hold_thread", stubborn=True),
        *await deployment.hold(1, "hold_process"),
    ]
    brief = await deployment.submit("nap", 3, seconds=0.8)
    waiting = await deployment.submit("hold", 4, gate=str(deployment.gate))
    await deployment.eventually(lambda: set(brief) <= deployment.book.ids("began"))
    stopped = await deployment.run("down")
    assert stopped.code == exits.Exit.OK and not deployment.nodes()
    assert deployment.agent and deployment.agent.wait() == exits.Exit.OK
    assert deployment.book.ids("ended") == set(brief)
    # What did not listen, and what ran in a process of its own, ended with its node.
    deployment.killed |= {mark.pid for mark in deployment.book.marks("began")}

    await deployment.up(workers=2, slots=8)
    jobs = {job.id: job async for job in deployment.client.jobs()}
    assert {(jobs[id].state, jobs[id].attempts, jobs[id].fence) for id in brief} == {("completed", 1, 1)}
    assert {(jobs[id].attempts, jobs[id].deaths) for id in held + waiting} == {(0, 0)}
    deployment.release()
    done = {job.id: job for job in await deployment.finished()}
    assert {(job.state, job.attempts, job.deaths, len(job.errors)) for job in done.values()} == {("completed", 1, 0, 0)}
    assert {done[id].fence for id in held} == {2}
    assert not (await deployment.verdict()).faults


async def test_down_twice_and_down_without_up(deployment: Deployment):
    never = await deployment.run("down")
    assert never.code == exits.Exit.UNAVAILABLE
    assert errors.NotRunning.code in never.err and len(never.err.splitlines()) == 1
    assert not deployment.data.exists()
    await deployment.up(workers=1)
    assert (await deployment.run("down")).code == exits.Exit.OK
    again = await deployment.run("down")
    assert again.code == exits.Exit.UNAVAILABLE
    assert errors.NotRunning.code in again.err and len(again.err.splitlines()) == 1
