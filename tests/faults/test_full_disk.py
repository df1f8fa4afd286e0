"""The disk of the store is full for a while: told clearly, nothing acknowledged is lost, nobody is taken for dead."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from callboard import errors
from callboard.cli import exits
from callboard.client import Client
from tests.faults.conftest import Measured
from tests.faults.deployment import START_SECONDS, Deployment, boot

DISK_BYTES = 24 << 20
BACK_SECONDS = 5.0


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A data directory on a small disk of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("needs a small disk to fill up: run as root, where mounting is allowed")
    try:
        yield disk / "data"
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def fill(file: Path) -> None:
    """Take every byte that is left."""
    with file.open("ab", buffering=0) as open_:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    open_.write(bytes(size))
            except OSError:
                os.fsync(open_.fileno())


async def submit_once(deployment: Deployment) -> None:
    """Submit without the patience of clients."""
    urls, key = deployment.access()
    async with Client(urls, key, timeout=1) as client:
        deployment.acknowledged.append((await client.submit("ledger.nap")).id)


@pytest.mark.parametrize("seconds", [pytest.param(4, id="short"), pytest.param(60, id="minute", marks=pytest.mark.long)])
async def test_a_full_disk_loses_nothing(deployment: Deployment, measured: Measured, seconds: int):
    await deployment.up(workers=2)
    nodes = deployment.nodes()
    held = await deployment.hold(4)
    stay = deployment.gate.with_name("second gate")
    longer = await deployment.submit("hold_thread", 2, gate=str(stay))
    await deployment.eventually(lambda: len(deployment.book.marks("began")) == 6)
    ballast = deployment.data.parent / "ballast"
    fill(ballast)
    full_at = boot()
    with pytest.raises(errors.StoreFull) as refused:
        await submit_once(deployment)
    assert refused.value.data["status"] == 503
    deployment.release()  # They end while nobody can store it.
    await deployment.eventually(lambda: deployment.book.ids("ended") == set(held))
    while boot() < full_at + seconds * 1e9:
        with pytest.raises(errors.StoreFull):
            await submit_once(deployment)
    assert {(await deployment.client.get(id)).state for id in held + longer} == {"running"}

    at = boot()
    ballast.unlink()
    await deployment.submit("nap")
    measured("space to the next acknowledgement", (boot() - at) / 1e9, BACK_SECONDS)
    stay.touch()
    jobs = await deployment.finished()
    assert {(job.state, job.attempts, job.deaths, job.fence) for job in jobs} == {("completed", 1, 0, 1)}
    assert deployment.nodes() == nodes
    verdict = await deployment.verdict()
    assert not verdict.faults and not verdict.repeated


async def test_a_worker_that_dies_on_a_full_disk_is_spoken_for_when_there_is_space(deployment: Deployment):
    await deployment.up(workers=2)
    await deployment.hold(4)
    victim, held = deployment.busiest()
    ballast = deployment.data.parent / "ballast"
    fill(ballast)
    deployment.kill(victim.pid)
    for _ in range(3):
        with pytest.raises(errors.StoreFull):
            await submit_once(deployment)
    assert len(deployment.book.marks("began")) == 4
    ballast.unlink()
    await deployment.eventually(lambda: deployment.book.elsewhere(held, victim.pid).keys() == held)
    await deployment.eventually(lambda: len(deployment.nodes()) == 3, START_SECONDS)
    deployment.release()
    jobs = await deployment.finished()
    assert {(job.state, job.attempts) for job in jobs} == {("completed", 1)}
    assert {job.id for job in jobs if job.deaths} == held
    assert not (await deployment.verdict()).faults


async def test_a_start_on_a_full_disk_says_so_in_one_line(deployment: Deployment):
    deployment.data.mkdir()
    fill(deployment.data.parent / "ballast")
    started = await deployment.run("up", "--port", str(deployment.port))
    assert started.code in (exits.Exit.STARTUP, exits.Exit.UNAVAILABLE), started
    assert len(started.err.splitlines()) == 1 and "space" in started.err, started
