"""Watching: who is restarted, replaced, adopted and killed, and who is left alone."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from callboard.jobs import engines, hub_hints, model, submission
from callboard.jobs import queue as queues
from callboard.node import layout
from tests.acceptance.agents import Machine, stop


async def with_queue(machine: Machine, ask: Callable[[queues.Queue], Any]) -> Any:
    """Open the store as a user's process does, hub and all."""
    hints = hub_hints.beside(machine.data / "callboard.db")
    assert hints is not None
    await hints.start()
    queue = queues.Queue(engines.open(f"sqlite://{machine.data}/callboard.db"), hints=hints)
    await queue.start()
    try:
        return await ask(queue)
    finally:
        await queue.stop()
        await hints.stop()


def submit(machine: Machine, kind: str, timeout: float | None = None, **args: Any) -> tuple[str, bytes]:
    async def ask(queue: queues.Queue) -> tuple[str, bytes]:
        given = submission.Submission(kind=f"app.{kind}", args=args, timeout=timeout)
        job = submission.build(given, {}, queue.clock.now())
        await queue.submit([job])
        return job.key

    return asyncio.run(with_queue(machine, ask))


def job(machine: Machine, key: tuple[str, bytes], seconds: float = 0) -> model.Job:
    return asyncio.run(with_queue(machine, lambda queue: queue.wait(*key, seconds)))


def test_who_dies_is_restarted(machine: Machine):
    machine.up()
    before = machine.pid()
    os.kill(before, signal.SIGKILL)
    machine.until(lambda: machine.pid() != before)
    assert "exit_code=-9" in machine.log()
    record = machine.place.record(_incarnation(machine, before))
    machine.until(lambda: not record.exists())  # When it was found without claims twice.


def test_a_crash_at_every_start_is_a_failed_start(machine: Machine):
    (machine.home / "dying.py").write_text("import os\nos._exit(9)\n")
    agent = machine.start(app="dying:app")
    said = machine.said(agent)
    assert agent.wait(20) == 3
    assert " 0 died before it was ready: see" in said["message"]


def test_a_stopped_node_is_killed_and_its_jobs_run_elsewhere(machine: Machine):
    machine.up(agent__stopped_seconds=0.5)
    go = machine.home / "go"
    key = submit(machine, "wait_for", path=str(go))
    before = machine.pid()
    machine.until(lambda: job(machine, key).state is model.State.RUNNING)
    os.kill(before, signal.SIGSTOP)
    go.touch()
    found = job(machine, key, 30)
    assert (found.state, found.deaths, found.fence) == (model.State.COMPLETED, 1, 2)
    assert machine.gone(before) and "stopped for 0.5 s" in machine.log()


def test_a_loop_that_a_handler_blocks_lives_until_it_stalls(machine: Machine):
    machine.up(agent__silent_seconds=2, agent__stall_seconds=6)
    before = machine.pid()
    found = job(machine, submit(machine, "block", seconds=3), 30)
    assert (found.state, found.deaths) == (model.State.COMPLETED, 0)
    assert machine.pid() == before
    key = submit(machine, "block", seconds=60)
    machine.until(lambda: machine.pid() != before)
    assert "behind a handler without a deadline" in machine.log()
    machine.until(lambda: job(machine, key).deaths >= 1)


def test_a_node_that_asks_for_it_is_restarted_at_once(machine: Machine):
    """A thread that does not end keeps its slot; at half of the slots the worker wants a new process."""
    machine.up(worker__slots=2, worker__grace_seconds=1)
    before = machine.pid()
    submit(machine, "leave_a_thread", timeout=0.2, seconds=60)
    machine.until(lambda: machine.pid() != before)
    assert "exit_code=75" in machine.log()


def test_nodes_of_other_settings_are_replaced_and_surplus_ones_end(machine: Machine):
    agent = machine.up(worker__count=2)
    before = machine.pids()
    agent.kill()
    agent.wait()
    machine.up(worker__count=1, worker__slots=3)
    machine.until(lambda: set(machine.pids()) == {0} and machine.pid() != before[0])
    machine.until(lambda: all(machine.gone(pid) for pid in before.values()))
    entries = machine.place.sessions().entries(layout.NODES)
    (entry,) = [found for put in entries if (found := layout.entry(put))]
    assert entry.roles[0]["slots"] == 3


def test_nodes_of_the_same_settings_are_adopted_and_answered_for(machine: Machine):
    flags = {"worker__count": 2, "agent__stopped_seconds": 0.5}
    agent = machine.up(**flags)
    before = machine.pids()
    agent.kill()
    agent.wait()
    machine.up(**flags)
    assert machine.started["adopted"] == 2 and machine.pids() == before
    os.kill(before[0], signal.SIGSTOP)
    machine.until(lambda: machine.pids().keys() == before.keys() and machine.pid() != before[0])
    os.kill(before[1], signal.SIGKILL)
    machine.until(lambda: machine.pids().keys() == before.keys() and machine.pid(index=1) != before[1])
    stop(machine)
    assert not machine._running()


def test_a_node_whose_agent_died_while_it_started_is_adopted_or_ended(machine: Machine):
    (machine.home / "slow.py").write_text("import time\ntime.sleep(0.7)\nfrom own import app\n")
    agent = machine.start(app="slow:app")
    machine.until(lambda: list(machine.place.nodes.glob("*.json")))
    agent.kill()
    agent.wait()
    machine.up(app="slow:app")
    machine.until(lambda: len(machine.pids()) == 1 and len(machine._running()) == 1)


def test_hints_flow_again_after_a_new_agent(machine: Machine):
    flags = {"worker__count": 1}
    agent = machine.up(**flags)
    agent.kill()
    agent.wait()
    before = machine.pid()
    key = submit(machine, "nap")
    assert job(machine, key, 10).finished  # Without a hub the worker polls.
    machine.up(**flags)
    assert machine.pid() == before

    async def quick(queue: queues.Queue) -> float:
        made = submission.build(submission.Submission(kind="app.nap"), {}, queue.clock.now())
        started = asyncio.get_running_loop().time()
        await queue.submit([made])
        await queue.wait(*made.key, 10)
        return asyncio.get_running_loop().time() - started

    machine.until(lambda: asyncio.run(with_queue(machine, quick)) < 0.25)


HOLDER = """
import os, signal, sys, time
from pathlib import Path
from callboard.jobs.engines.sqlite import lock
with lock.WriteLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


async def test_a_stopped_process_that_holds_the_lock_is_killed_whoever_it_is(machine: Machine):
    machine.up(agent__lock_stopped_seconds=0.5)
    path = Path(machine.data / "callboard.db.lock")
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(path), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert holder.stdout is not None and await holder.stdout.readline() == b"held\n"
    holder.send_signal(signal.SIGSTOP)
    async with asyncio.timeout(10):
        assert await holder.wait() == -signal.SIGKILL
    assert "write lock" in machine.log()
    assert await with_queue(machine, lambda queue: queue.submit([]) or queue.domains()) is not None


def test_a_users_own_process_is_left_alone_and_its_claims_end_with_it(machine: Machine):
    """It has a session of its own, and no record: an agent neither stops nor restarts it."""
    machine.up(worker__count=0)
    key = submit(machine, "nap")
    script = """
import asyncio, sys
from pathlib import Path
from callboard.coordination import sessions
from callboard.jobs import engine, engines, model, queue
from callboard.node import layout
node = bytes.fromhex(sys.argv[2])
session = sessions.ProcessSessions(Path(sys.argv[1]) / "sessions").session(layout.session_name(node.hex()))
async def main():
    store = queue.Queue(engines.open(f"sqlite://{sys.argv[1]}/callboard.db"))
    await store.start()
    take = engine.Take("main", "default", model.Lane.LONG, (("app.nap", (1,)),), 1)
    print(len((await store.exchange([], node, [take], 1))[1]), flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    import subprocess

    node = os.urandom(16)
    with subprocess.Popen([sys.executable, "-c", script, str(machine.data), node.hex()], stdout=subprocess.PIPE) as own:
        try:
            assert own.stdout is not None and own.stdout.readline() == b"1\n"
            assert job(machine, key).node == node
            agent = machine.start(worker__count=0)
            assert machine.said(agent)["code"] == "already_running"
            machine.until(lambda: f"node-{node.hex()}" in machine.place.sessions().sessions())
            assert job(machine, key).node == node and own.poll() is None
        finally:
            own.kill()
    machine.until(lambda: job(machine, key).state is model.State.AVAILABLE, 8)
    assert job(machine, key).deaths == 1


def _incarnation(machine: Machine, pid: int) -> str:
    for line in machine.log().splitlines():
        if f"pid={pid}" in line and "node=" in line:
            return line.partition("node=")[2].split()[0]
    pytest.fail(f"no line about {pid}")
