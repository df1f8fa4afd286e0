"""Processes that are stopped, not dead: they hold nobody up for long, and what they do when they go on changes nothing."""

from __future__ import annotations

import asyncio
import secrets
import signal

import pytest

from callboard.jobs import engines, queue
from callboard.kit import uuid7
from callboard.node import processes
from tests.faults import breaking
from tests.faults.conftest import Measured
from tests.faults.deployment import START_SECONDS, Deployment, longest_gap

STOPPED_SECONDS = 3.0
"""What `agent.stopped_seconds` is by default."""
COMMIT_SECONDS = 3.0
NOISE_SECONDS = 2.0


def state(pid: int) -> str:
    found = processes.status(pid)
    return found.state if found else "gone"


async def test_jobs_of_a_stopped_worker_run_elsewhere(deployment: Deployment, measured: Measured):
    await deployment.up(workers=2)
    await deployment.hold(4)
    victim, held = deployment.busiest()
    at = deployment.kill(victim.pid, signal.SIGSTOP)
    deployment.killed.add(victim.pid)  # By the agent.
    async with deployment.traffic():
        await deployment.eventually(lambda: deployment.book.elsewhere(held, victim.pid).keys() == held)
    again = max(deployment.book.elsewhere(held, victim.pid).values())
    measured("stopped to running again", (again - at) / 1e9, STOPPED_SECONDS + 1 + NOISE_SECONDS)
    assert state(victim.pid) == "gone"
    deployment.release()
    jobs = await deployment.finished()
    assert {(job.state, job.attempts) for job in jobs} == {("completed", 1)}
    assert not (await deployment.verdict()).faults


@breaking.stores("zookeeper")
async def test_a_frozen_process_settles_nothing_that_others_took_over(deployment: Deployment):
    await deployment.up(workers=0)
    frozen, rescuer = secrets.token_hex(16), secrets.token_hex(16)
    first = deployment.script("outsider", frozen)
    ids = await deployment.hold(2)
    assert deployment.book.held_by(first.pid) == set(ids)
    deployment.kill(first.pid, signal.SIGSTOP)
    deployment.killed.add(first.pid)
    await deployment.eventually(lambda: state(first.pid) == "T")

    store = queue.Queue(engines.open(deployment.url))
    await store.start()
    expired = await store.expire([bytes.fromhex(frozen)])
    await store.stop()
    assert {uuid7.text(job.id) for job in expired} == set(ids)

    second = deployment.script("outsider", rescuer)
    await deployment.eventually(lambda: deployment.book.held_by(second.pid) == set(ids), START_SECONDS)
    deployment.release()
    jobs = await deployment.finished()
    assert state(first.pid) == "T"
    assert {(job.state, job.attempts, job.deaths, job.result) for job in jobs} == {("completed", 1, 1, 2)}

    deployment.kill(first.pid, signal.SIGCONT)
    await deployment.eventually(lambda: not deployment.book.held_by(first.pid))
    assert (await deployment.ended(first))["refused"] == 2
    assert (await deployment.ended(second))["refused"] == 0
    assert await deployment.finished() == jobs
    assert not (await deployment.verdict()).faults


@breaking.stores()
async def test_a_process_stopped_inside_its_commit_holds_up_nobody_for_long(deployment: Deployment, measured: Measured):
    await deployment.up(workers=2)
    await deployment.hold(4)
    victim, held = deployment.busiest()
    deployment.killed.add(victim.pid)  # By the agent.
    async with deployment.traffic() as acknowledged:
        await deployment.eventually(lambda: acknowledged)  # Else the pause might lie before the first one.
        frozen = deployment.freeze_in_commit(victim.pid)
        await deployment.eventually(frozen.exists)
        await deployment.eventually(lambda: state(victim.pid) == "gone")
        before = len(acknowledged)
        await deployment.eventually(lambda: len(acknowledged) > before)
        await deployment.eventually(lambda: deployment.book.elsewhere(held, victim.pid).keys() == held)
    measured("nobody could commit", longest_gap(acknowledged), COMMIT_SECONDS + NOISE_SECONDS)
    deployment.release()
    jobs = await deployment.finished()
    assert {(job.state, job.attempts) for job in jobs} == {("completed", 1)}
    assert not (await deployment.verdict()).faults


@pytest.mark.parametrize(
    ("seconds", "silent"),
    [
        pytest.param(6, 3, id="short"),
        pytest.param(60, 10, id="minute", marks=pytest.mark.long),
    ],
)
async def test_a_handler_that_holds_the_interpreter_is_not_run_twice(deployment: Deployment, seconds: int, silent: int):
    """Its node is silent for longer than one at rest may be; it commits nothing just then, or it would be in everyone's way."""
    await deployment.up("--set", f"agent.silent_seconds={silent}", workers=2)
    before = deployment.nodes()
    (gripped,) = await deployment.submit("grip", seconds=seconds)
    await deployment.eventually(lambda: deployment.book.marks("began"))
    naps = await deployment.submit("nap", 20)
    async with asyncio.timeout(seconds - 1):
        for id in naps:
            assert (await deployment.client.wait(id)).state == "completed"
    assert (await deployment.client.get(gripped)).state == "running"
    jobs = await deployment.finished(seconds + 10)
    assert {(job.state, job.attempts, job.deaths, job.fence) for job in jobs} == {("completed", 1, 0, 1)}
    assert deployment.nodes() == before
    verdict = await deployment.verdict()
    assert not verdict.faults and not verdict.repeated


@breaking.stores()
@pytest.mark.parametrize("seconds", [12, pytest.param(60, id="minute", marks=pytest.mark.long)])
async def test_the_interpreter_held_inside_a_commit_delays_all_and_repeats_nothing(deployment: Deployment, seconds: int):
    """As by a handler in C code at an unlucky moment: nobody can commit until it lets go, and then all goes on as it was."""
    await deployment.up(workers=2)
    before = deployment.nodes()
    await deployment.hold(4)
    victim, _ = deployment.busiest()
    opened = deployment.clench_in_commit(victim.pid, seconds)
    await deployment.eventually(opened.exists, seconds + 10)
    deployment.release()
    jobs = await deployment.finished()
    assert {(job.state, job.attempts, job.deaths, job.fence) for job in jobs} == {("completed", 1, 0, 1)}
    assert deployment.nodes() == before
    verdict = await deployment.verdict()
    assert not verdict.faults and not verdict.repeated
