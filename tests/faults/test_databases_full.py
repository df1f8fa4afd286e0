"""The disk of the database's server is full for a while: told clearly, nothing acknowledged is lost, work goes on when there is
space."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from callboard import errors
from callboard.cli import exits
from callboard.client import Client
from callboard.testing.engines import mariadb as mariadbs
from callboard.testing.engines import postgresql as postgresqls
from callboard.testing.engines import servers
from tests.conftest import INSTALL
from tests.faults import breaking
from tests.faults.conftest import Measured
from tests.faults.deployment import Deployment, boot
from tests.faults.test_full_disk import fill

SPARE_BYTES = {"mariadb": 40 << 20, "postgresql": 48 << 20}
"""Beside what the server starts with. PostgreSQL ends when it finds no room for its log, so that it needs some in advance."""
BYTES = 3_000
"""Of a job's arguments: few enough for a page. MariaDB may end when it finds no room to undo what it wrote of bigger ones."""
MOST_JOBS = 400
"""So many may find room in what the server had taken before."""
BACK_SECONDS = 5.0

Server = mariadbs.MariaDb | postgresqls.PostgreSql


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in ("mariadb", "postgresql")],
)
def small(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of its own whose data lies on a small disk."""
    module = {"mariadb": mariadbs, "postgresql": postgresqls}[request.param]
    if reason := module.installed():
        pytest.skip(f"needs {request.param} ({reason}): {INSTALL}")
    with contextlib.ExitStack() as open_:
        made: Server = mariadbs.MariaDb() if request.param == "mariadb" else postgresqls.PostgreSql()
        open_.callback(made.close)
        _moved(made.data, SPARE_BYTES[request.param])
        open_.callback(subprocess.run, ["umount", "--lazy", made.data], check=True)
        open_.callback(servers.Server.kill, made)
        made.start()
        yield made


def _moved(data: Path, spare: int) -> None:
    """Have a directory lie on a disk of its own, with so much to spare."""
    aside = data.with_name(f"{data.name}-aside")
    data.rename(aside)
    data.mkdir()
    used = sum(path.lstat().st_blocks * 512 for path in aside.rglob("*"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={used + spare}", "tmpfs", str(data)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs a small disk to fill up: run as root, where mounting is allowed")
    subprocess.run(["cp", "-a", f"{aside}/.", str(data)], check=True)
    owner = aside.stat()
    os.chown(data, owner.st_uid, owner.st_gid)
    data.chmod(owner.st_mode)
    shutil.rmtree(aside)


@pytest.fixture
def store(small: Server) -> str:
    return breaking.probed(small.database())


def heavy(size: int = BYTES) -> dict[str, str]:
    """What cannot be written in less."""
    return {"load": secrets.token_hex(size // 2)}


async def refused(deployment: Deployment) -> errors.StoreFull:
    """Submit until nothing more finds room, without the patience of clients; return what was said."""
    urls, key = deployment.access()
    async with Client(urls, key, timeout=3) as client:
        for _ in range(MOST_JOBS):
            try:
                receipt = await client.submit("ledger.carry", heavy())
            except errors.StoreFull as error:
                return error
            deployment.acknowledged.append(receipt.id)
    raise AssertionError("it does not get full")


@pytest.mark.parametrize("seconds", [pytest.param(2, id="short"), pytest.param(60, id="minute", marks=pytest.mark.long)])
async def test_a_full_disk_of_the_server_loses_nothing(
    deployment: Deployment, small: Server, store: str, measured: Measured, seconds: int
):
    await deployment.up()
    nodes = deployment.nodes()
    held = await deployment.hold(4)
    ballast = small.data / "ballast"
    await asyncio.to_thread(fill, ballast)
    full_at = boot()
    said = await refused(deployment)
    assert (said.data["status"], said.retryable) == (503, True)
    assert "free space on the server's disk" in said.message
    deployment.release()  # They end while others find no room.
    await deployment.eventually(lambda: deployment.book.ids("ended").issuperset(held))
    while boot() < full_at + seconds * 1e9:
        await refused(deployment)
    assert small.running

    at = boot()
    ballast.unlink()
    receipt = await deployment.client.submit("ledger.carry", heavy())
    deployment.acknowledged.append(receipt.id)
    await deployment.client.wait(receipt.id)
    measured("space to the next job's end", (boot() - at) / 1e9, BACK_SECONDS)
    assert deployment.nodes() == nodes
    await breaking.judged(deployment)


async def test_a_start_on_a_full_disk_of_the_server_says_so_in_one_line(deployment: Deployment, small: Server, store: str):
    fill(small.data / "ballast")
    started = await deployment.run("up", "--port", str(deployment.port), "--store", store)
    assert started.code in (exits.Exit.STARTUP, exits.Exit.UNAVAILABLE), started
    assert len(started.err.splitlines()) == 1 and "space" in started.err, started


@pytest.mark.long
@pytest.mark.parametrize("small", [pytest.param("mariadb", marks=pytest.mark.xdist_group("mariadb"))], indirect=True)
async def test_a_server_that_ends_on_a_full_disk(deployment: Deployment, small: Server, store: str, measured: Measured):
    """MariaDB does when it has no room to undo what it had begun to write of big arguments. Whoever keeps it starts it again."""
    await deployment.up()
    nodes = deployment.nodes()
    await deployment.hold(4)
    ballast = small.data / "ballast"
    await asyncio.to_thread(fill, ballast)
    urls, key = deployment.access()
    async with Client(urls, key, timeout=1) as client:
        while small.running:
            with contextlib.suppress(errors.StoreError, errors.Unreachable):
                deployment.acknowledged.append((await client.submit("ledger.carry", heavy(200_000))).id)
    for left in (ballast, *small.data.glob("core*")):  # What it left of itself takes room too.
        left.unlink()
    starting = asyncio.create_task(asyncio.to_thread(small.start))
    await breaking.works_again(deployment, store, "mariadb: ended on a full disk", BACK_SECONDS, measured)
    await starting
    assert deployment.nodes() == nodes
    await breaking.judged(deployment)
