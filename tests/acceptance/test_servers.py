"""Two servers from one file, as real processes on addresses of their own, on a database and an ensemble that they share.

A job that is submitted at one runs at the other, which alone takes its queue; so is a service called. One that comes with an
older file stands for no office.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from callboard.cli.demo import deployment
from callboard.testing.engines import zookeeper as zookeepers

CALLBOARD = (sys.executable, "-m", "callboard.cli")
SECONDS = 40.0

FILE = """
version = {version}
cluster = "acme"
app = "shop:app"
store.url = "{store}"
coordination.url = "{coordination}"
wire.certificates = "certs"

[groups]
main = ["."]
north = ["north"]

[servers.alpha]
address = "127.0.0.2"
data = "alpha"
gateway.host = "127.0.0.2"
gateway.port = {port}
worker = {{ count = 1, queues = ["letters"] }}
service = {{ count = 1, group = "main" }}

[servers.auto]
data = "beta"
gateway.count = 0
worker = {{ count = 1, queues = ["images"] }}
service = {{ count = 1, group = "north" }}
"""
APP = """
from callboard import Call, Callboard

app = Callboard("shop")

@app.job(queue="images")
def draw() -> str:
    return open("/proc/self/cmdline").read()

@app.job(queue="images")
async def ask() -> str:
    return await app.call("billing@main", "where")

@app.job(queue="letters")
def write() -> str:
    return open("/proc/self/cmdline").read()

@app.service("billing", active="one")
class Billing:
    async def where(self, call: Call) -> str:
        return open("/proc/self/cmdline").read()
"""


class Site:
    """A directory with the file, the app and the certificates, as every server has them, and the agents started there."""

    def __init__(self, directory: Path, store: str, coordination: str) -> None:
        self.directory = directory
        self._given = {"store": store, "coordination": coordination, "port": str(deployment._free_ports(1))}
        self._agents: list[subprocess.Popen[str]] = []
        (directory / "shop.py").write_text(APP)
        self.write(1)
        self.run("certs", "init")
        for server in ("alpha", "beta"):
            self.run("certs", "issue", server)

    def write(self, version: int) -> None:
        (self.directory / "cluster.toml").write_text(FILE.format(version=version, **self._given))

    def start(self, *tokens: str) -> dict[str, Any]:
        """Start an agent; return what it says once it is ready, and how, in `notes`."""
        said = self.directory / f"agent-{len(self._agents)}.err"
        with said.open("w") as err:
            command = [*CALLBOARD, "agent", *tokens, "--json"]
            made = subprocess.Popen(command, cwd=self.directory, env=clean(), text=True, stdout=subprocess.PIPE, stderr=err)
        self._agents.append(made)
        assert made.stdout is not None
        line = made.stdout.readline()
        assert line, said.read_text()
        return {**json.loads(line), "notes": said.read_text()}

    def stop(self, place: int) -> None:
        self._agents[place].terminate()
        assert self._agents[place].wait(SECONDS) == 0

    def run(self, *tokens: str, code: int = 0) -> str:
        command = [*CALLBOARD, *tokens]
        ran = subprocess.run(
            command, cwd=self.directory, env=clean(), text=True, capture_output=True, timeout=SECONDS, check=False
        )
        assert ran.returncode == code, ran.stdout + ran.stderr
        return ran.stderr if code else ran.stdout

    def nodes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.run("nodes", "--data", "alpha", "--json"))["nodes"]
        return found

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline, [path.read_text() for path in self.directory.glob("agent-*.err")]

    def sweep(self) -> None:
        for each in self._agents:
            with each:
                each.kill()
        deployment._end_leftovers(self.directory)


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("CALLBOARD_")}


@pytest.fixture
def site(tmp_path: Path, mariadb_database: str, zookeeper: zookeepers.Ensemble) -> Iterator[Site]:
    made = Site(tmp_path, mariadb_database, zookeeper.url(f"/{tmp_path.name}"))
    with contextlib.ExitStack() as ends:
        ends.callback(made.sweep)
        yield made


def test_a_job_submitted_at_one_server_runs_at_the_other_which_alone_takes_its_queue(site: Site):
    shown = [line.split("\t") for line in site.run("config", "check").splitlines()]
    assert [row[0] for row in shown] == ["alpha", "(others)"]
    alpha = site.start("--server", "alpha")
    beta = site.start("--server", "beta", "--address", "127.0.0.3")
    assert [url.startswith("http://127.0.0.2:") for url in alpha["urls"]] == [True] and beta["urls"] == []

    site.until(lambda: len(site.nodes()) == 5)
    for kind, server in (("shop.draw", "beta"), ("shop.write", "alpha"), ("shop.ask", "alpha")):
        job = json.loads(site.run("submit", kind, "--wait", "--json", "--data", "alpha"))
        assert job["state"] == "completed" and str(site.directory / server / "nodes") in job["result"], job

    said = json.loads(site.run("call", "billing@north", "where", "--data", "alpha"))
    assert str(site.directory / "beta" / "nodes") in said, "over mutual TLS, to an address that the file does not name"

    assert json.loads(site.run("config", "push", "--json"))["before"] == {"main": None}
    site.write(2)
    assert json.loads(site.run("config", "push", "--json"))["before"] == {"main": 1}
    site.write(1)
    assert "version 2 was pushed, and this file is version 1" in site.run("config", "push", code=4)
    site.stop(1)
    again = site.start("--server", "beta", "--address", "127.0.0.3")
    assert "this server stands for no office" in again["notes"]
    assert "not_active" in site.run("call", "billing@north", "where", "--timeout", "1", "--data", "alpha", code=5)
