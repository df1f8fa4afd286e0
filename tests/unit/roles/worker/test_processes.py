"""Handlers in child processes: fed, killed, and gone with their parent."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from callboard.app import Callboard
from callboard.jobs.model import Progress, Reason, State
from callboard.node import processes


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Callboard:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    made: Callboard = importlib.import_module("process_jobs").app
    return made


def alive(pid: int) -> bool:
    found = processes.status(pid)
    return found is not None and found.state != "Z"


async def written(yard: Any, file: Path) -> int:
    """The process that wrote its number into a file."""
    await yard.until(lambda: file.exists() and file.read_text().endswith("\n"), 60)
    return int(file.read_text().split()[-1])


async def test_a_child_runs_one_job_after_another(yard: Any, app: Callboard) -> None:
    await yard.work(app, slots=1)
    when = "2026-01-01T01:00:00+01:00"
    first = await yard.result(await yard.submit(app, "pid", when=when))
    assert first == {"pid": first["pid"], "parent": os.getpid(), "attempt": 1, "when": "2026-01-01T00:00:00+00:00"}
    assert (await yard.result(await yard.submit(app, "pid", when=when)))["pid"] == first["pid"]
    assert await yard.result(await yard.submit(app, "in_loop_of_its_own", n=3)) == 3
    await yard.workers[0].stop()
    await yard.until(lambda: not alive(first["pid"]))


@pytest.mark.parametrize(
    ("kind", "args", "reason", "type", "said"),
    [
        ("fail", {}, Reason.ATTEMPTS_EXHAUSTED, "ValueError", "from a child"),
        ("give_up", {}, Reason.DISCARDED, "Discard", "enough"),
        ("pid", {"when": "2026-01-01T00:00:00"}, Reason.INVALID_ARGUMENTS, "InvalidArguments", "no offset"),
        ("leave", {"how": "sys"}, Reason.ATTEMPTS_EXHAUSTED, "SystemExit", "1"),
        ("leave", {"how": "exit"}, Reason.ATTEMPTS_EXHAUSTED, "ProcessDied", "exit status 7"),
        ("leave", {"how": "crash"}, Reason.ATTEMPTS_EXHAUSTED, "ProcessDied", "signal SIGSEGV"),
    ],
)
async def test_failures_of_children(yard: Any, app: Callboard, kind: str, args: Any, reason: str, type: str, said: str) -> None:
    await yard.work(app, slots=1)
    job = await yard.end(id := await yard.submit(app, kind, **args))
    (error,) = await yard.errors(id)
    assert (job.state, job.reason, error.type) == (State.DISCARDED, reason, type)
    assert said in error.message
    if type == "ValueError":
        assert 'raise ValueError("from a child")' in error.traceback
        assert "callboard/roles" not in error.traceback


async def test_a_timeout_kills_the_child_and_the_next_job_gets_another(yard: Any, app: Callboard, tmp_path: Path) -> None:
    await yard.work(app, slots=1)
    id = await yard.submit_to(yard.queue, app, "hog", {"file": str(tmp_path / "pid")}, timeout=1)
    pid = await written(yard, tmp_path / "pid")
    job = await yard.end(id)
    assert ((await yard.errors(id))[0].code, job.attempts) == (Reason.TIMEOUT, 1)
    assert not alive(pid)
    assert await yard.result(await yard.submit(app, "in_loop_of_its_own", n=3)) == 3


async def test_a_wish_kills_the_child_and_progress_comes_from_it(yard: Any, app: Callboard, tmp_path: Path) -> None:
    await yard.work(app, slots=1)
    id = await yard.submit(app, "hog", file=str(tmp_path / "pid"))
    pid = await written(yard, tmp_path / "pid")

    async def progressed() -> bool:
        return bool((await yard.job(id)).progress == Progress(1, 2, "half"))

    await yard.until(progressed)
    await yard.queue.cancel("main", id)
    job = await yard.end(id)
    assert (job.state, job.attempts) == (State.CANCELLED, 0)
    assert not alive(pid)


async def test_a_drained_worker_kills_its_children_and_hands_back(yard: Any, app: Callboard, tmp_path: Path) -> None:
    worker = await yard.work(app, slots=1)
    id = await yard.submit(app, "hog", file=str(tmp_path / "pid"))
    pid = await written(yard, tmp_path / "pid")
    await worker.drain(0)
    job = await yard.job(id)
    assert (job.state, job.attempts, job.deaths) == (State.AVAILABLE, 0, 0)
    assert not alive(pid)


PARENT = """
import asyncio, secrets, sys
sys.path.insert(0, sys.argv[1])
import process_jobs
from callboard.jobs import queue, submission
from callboard.jobs.engines import memory
from callboard.roles import worker

async def main():
    store = queue.Queue(memory.open("memory:"))
    await store.start()
    made = worker.Worker(store, process_jobs.app, node=secrets.token_bytes(16), slots=1)
    await made.start()
    await process_jobs.hog.submit(file=sys.argv[2])
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_a_child_dies_with_its_parent(yard: Any, tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, str(Path(__file__).parent), str(tmp_path / "pid"))
    try:
        pid = await written(yard, tmp_path / "pid")
    finally:
        parent.send_signal(signal.SIGKILL)
        await parent.wait()
    await yard.until(lambda: not alive(pid))
