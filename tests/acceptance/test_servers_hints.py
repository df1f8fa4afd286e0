"""Hints between two servers: work that is submitted or set free at one starts at the other long before anybody there polls."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from callboard import client
from callboard.testing.engines import zookeeper as zookeepers
from tests.acceptance import sites

POLL_SECONDS = 1.0
"""Between two looks of a worker that hears nothing: without hints a job starts after half of it, its end is known after one."""
ROUNDS = 5

FILE = """
[servers.alpha]
address = "127.0.0.2"
data = "alpha"
gateway.host = "127.0.0.2"
gateway.port = {port}
worker = {{ count = 2, slots = 1, queues = ["letters"] }}

[servers.beta]
address = "127.0.0.3"
data = "beta"
gateway.count = 0
worker = {{ count = 1, slots = 1, queues = ["images", "letters"] }}
"""
APP = """
import asyncio, os, pathlib, time
from callboard import Callboard

app = Callboard("shop")
here = pathlib.Path("/proc/self/cmdline").read_text()

@app.job(queue="images")
async def draw() -> float:
    return time.time()

@app.job(queue="images")
async def occupy(until: str) -> None:
    while not pathlib.Path(until).exists():
        await asyncio.sleep(0.01)

@app.job(queue="letters", attempts=9)
async def hold(says: str) -> float:
    if "/beta/" not in here:
        pathlib.Path(says).write_text(f"{os.getpid()}\\n")
        await asyncio.sleep(600)
    return time.time()
"""


@pytest.fixture
def site(tmp_path: Path, mariadb_database: str, zookeeper: zookeepers.Ensemble) -> Iterator[sites.Site]:
    made = sites.Site(tmp_path, FILE, APP, mariadb_database, zookeeper.url(f"/{tmp_path.name}"))
    with contextlib.ExitStack() as ends:
        ends.callback(made.sweep)
        made.start("--server", "alpha")
        made.start("--server", "beta")
        made.until(lambda: all("hints go to and fro" in (tmp_path / f"agent-{place}.err").read_text() for place in (0, 1)))
        yield made


@pytest.fixture
def gateway(site: sites.Site) -> Iterator[client.SyncClient]:
    local = json.loads((site.directory / "alpha" / "local.json").read_text())
    with client.SyncClient(local["urls"], local["key"]) as made:
        made.result(made.submit("shop.draw").id)
        yield made


def test_work_starts_and_its_end_is_known_at_the_other_server_before_anybody_polls(gateway: client.SyncClient) -> None:
    starts, ends = [], []
    for _ in range(4 * ROUNDS):
        began = time.time()
        starts.append(gateway.result(gateway.submit("shop.draw").id) - began)
        ends.append(time.time() - began)
    print(f"to its start {statistics.median(starts):.3f} s, to its result {statistics.median(ends):.3f} s")
    assert statistics.median(starts) < POLL_SECONDS / 4 and statistics.median(ends) < POLL_SECONDS / 2


def test_what_a_killed_worker_had_starts_at_the_other_server_when_its_own_is_full(
    site: sites.Site, gateway: client.SyncClient
) -> None:
    def held(says: str) -> int:
        """Have a job of alpha's hold a slot there, while beta has none; return the worker's pid."""
        site.until(lambda: (site.directory / says).exists() and (site.directory / says).read_text().endswith("\n"))
        return int((site.directory / says).read_text())

    def occupied(until: str) -> str:
        """Have a job keep beta's only slot."""
        id = gateway.submit("shop.occupy", {"until": until}).id
        site.until(lambda: gateway.get(id).state == "running")
        return id

    taken = []
    for number in range(ROUNDS):
        beta = occupied(f"go-{number}")
        if not number:
            gateway.submit("shop.hold", {"says": "first"})
            held("first")
        job = gateway.submit("shop.hold", {"says": f"held-{number}"}).id
        worker = held(f"held-{number}")
        (site.directory / f"go-{number}").touch()
        gateway.result(beta)
        killed = time.time()
        os.kill(worker, signal.SIGKILL)
        taken.append(gateway.result(job) - killed)
    print("from the kill to the start elsewhere:", *(f"{seconds:.3f} s" for seconds in sorted(taken)))
    assert statistics.median(taken) < POLL_SECONDS / 2 and max(taken) < 3 * POLL_SECONDS
