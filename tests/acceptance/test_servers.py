"""Two servers from one file, as real processes on addresses of their own, on a database and an ensemble that they share.

A job that is submitted at one runs at the other, which alone takes its queue; so is a service called. One that comes with an
older file, or hears of a newer one while it runs, stands for no office.
"""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from callboard.testing.engines import zookeeper as zookeepers
from tests.acceptance import sites

FILE = """
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


@pytest.fixture
def site(tmp_path: Path, mariadb_database: str, zookeeper: zookeepers.Ensemble) -> Iterator[sites.Site]:
    made = sites.Site(tmp_path, FILE, APP, mariadb_database, zookeeper.url(f"/{tmp_path.name}"))
    with contextlib.ExitStack() as ends:
        ends.callback(made.sweep)
        yield made


def test_a_job_submitted_at_one_server_runs_at_the_other_which_alone_takes_its_queue(site: sites.Site):
    shown = [line.split("\t") for line in site.run("config", "check").splitlines()]
    assert [row[0] for row in shown] == ["alpha", "(others)"]
    alpha = site.start("--server", "alpha")
    beta = site.start("--server", "beta", "--address", "127.0.0.3")
    assert [url.startswith("http://127.0.0.2:") for url in alpha["urls"]] == [True] and beta["urls"] == []

    site.until(lambda: len(site.nodes()) == 5)
    listed = [line.split("\t") for line in site.run("nodes", "--data", "alpha").splitlines()]
    assert {(node["incarnation"], node["server"]) for node in site.nodes()} == {(row[0], row[-1]) for row in listed}
    assert {row[-1] for row in listed} == {"alpha", "beta"}
    assert "has no gateway" in site.run("nodes", "--data", "beta", code=5)
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


def test_a_newer_file_that_is_published_is_heard_of_and_taken_up_by_a_reload(site: sites.Site):
    site.start("--server", "alpha")
    site.start("--server", "beta", "--address", "127.0.0.3")
    site.until(lambda: len(site.nodes()) == 5)
    site.run("config", "push")
    before = json.loads(site.run("call", "billing@north", "where", "--data", "alpha"))

    site.write(2)
    site.run("config", "push")
    said = site.directory / "agent-1.err"
    site.until(lambda: "version 2 was pushed, and this file is version 1" in said.read_text())
    site.until(lambda: "renewal is complete" in said.read_text())
    other = site.directory / "agent-0.err"
    site.until(lambda: "renewal is complete" in other.read_text())  # Of its gateway, which hosts controllers.
    assert "not_active" in site.run("call", "billing@north", "where", "--timeout", "1", "--data", "alpha", code=5)
    assert "role=worker" not in said.read_text().partition("renewal begins")[2], "workers stand for nothing: they go on"

    site._agents[1].send_signal(signal.SIGUSR2)  # What the command does, which would wait for it.
    site.until(lambda: said.read_text().count("renewal begins") == 2)
    site.until(lambda: said.read_text().count("renewal is complete") == 2)
    after = json.loads(site.run("call", "billing@north", "where", "--data", "alpha"))
    assert after != before and str(site.directory / "beta" / "nodes") in after
