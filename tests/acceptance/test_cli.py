"""The commands against a real deployment: what they print, and how they end. `up` and `down` are in `test_cli_up`."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
import time

import msgspec
import pytest

from callboard.cli import program
from callboard.cli.demo import deployment

pytestmark = pytest.mark.xdist_group("cli")

NOWHERE = "01a20144-0a9f-7614-951d-f4dc0136f3c6"
SERVERS = {
    "mariadb": lambda server: server.database(),
    "postgresql": lambda server: server.database(),
    "galera": lambda cluster: cluster.database(),
    "zookeeper": lambda ensemble: ensemble.url(f"/cli-{time.time_ns()}"),
}
"""A store of its own on each server that is started once, by name."""
LONG = ("galera",)


class Ran(msgspec.Struct, frozen=True):
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def rows(self):
        return [line.split("\t") for line in self.out.splitlines()]

    @property
    def json(self):
        return json.loads(self.out)


def marks(name):
    return [pytest.mark.xdist_group(name), *([pytest.mark.long] if name in LONG else [])]


@pytest.fixture(
    scope="module",
    params=["sqlite", *(pytest.param(name, marks=marks(name)) for name in SERVERS)],
)
def place(request):
    store = None if request.param == "sqlite" else SERVERS[request.param](request.getfixturevalue(f"private_{request.param}"))
    with deployment.running(gateways=1, workers=1, slots=4, store=store) as running:
        yield running


@pytest.fixture
def cli(place, capsys, monkeypatch):
    """Run a command in this process, as when it is piped."""
    for name in ("CALLBOARD_URL", "CALLBOARD_KEY", "CALLBOARD_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CALLBOARD_DATA", str(place.directory))

    def run(*tokens):
        code = program.run(tokens)
        return Ran(code, *capsys.readouterr())

    return run


@pytest.fixture
def waiting(cli):
    """The id of a job that waits for an hour."""
    return cli("submit", "demo.echo", "--delay", "3600").out.strip()


def test_a_result_is_printed_as_json(cli):
    ran = cli("submit", "demo.echo", 'value={"a": [1, "x"]}', "--wait")
    assert (ran.code, ran.json, ran.err) == (0, {"a": [1, "x"]}, "")
    assert cli("submit", "demo.echo", "value=hello", "--wait").json == "hello"
    assert cli("submit", "demo.echo", "--wait").json is None


def test_an_id_is_printed_for_scripts(cli):
    ran = cli("submit", "demo.echo", "value=1")
    assert (ran.code, ran.err) == (0, "")
    assert cli("job", ran.out.strip(), "--follow").code == 0


def test_every_option_of_a_submission_arrives(cli):
    ran = cli(
        *("submit", "demo.echo", "value=1", "--json"),
        *("--delay", "900", "--priority", "2", "--queue", "slow", "--lane", "long", "--tag", "a", "--tag", "b"),
        *("--meta", "team=print", "--attempts", "7", "--backoff", "2.5", "--timeout", "30", "--version", "1"),
    )
    job = cli("job", ran.json["id"], "--json").json
    found = {
        name: job[name] for name in ("priority", "queue", "lane", "tags", "meta", "max_attempts", "backoff", "timeout", "version")
    }
    assert found == {
        "priority": 2,
        "queue": "slow",
        "lane": "long",
        "tags": ["a", "b"],
        "meta": {"team": "print"},
        "max_attempts": 7,
        "backoff": 2.5,
        "timeout": 30,
        "version": 1,
    }
    assert job["state"] == "scheduled"


def test_an_id_too_old_to_be_recognized_is_refused(cli):
    ran = cli("submit", "demo.echo", "--id", NOWHERE)
    assert (ran.code, ran.out) == (4, "") and "(id_expired)" in ran.err
    assert cli("submit", "demo.echo", "--id", "17").code == 2


def test_a_failed_job_is_a_failed_command(cli):
    ran = cli("submit", "demo.fail", "message=no luck", "--wait")
    assert (ran.code, ran.out) == (1, "")
    assert "RuntimeError: no luck (job_failed)" in ran.err and ran.err.count("\n") == 1
    ran = cli("submit", "demo.fail", "--wait", "--json")
    assert (ran.code, ran.json["state"], ran.json["errors"][0]["type"]) == (1, "discarded", "RuntimeError")


def test_waiting_ends_when_it_is_told_to_and_the_job_goes_on(cli):
    ran = cli("submit", "demo.sleep", "seconds=3", "--wait", "--within", "0.1")
    assert (ran.code, ran.out) == (7, "")
    id = ran.err.split()[2]
    assert cli("job", id, "--follow", "--json").json["state"] == "completed"


def test_submitting_the_same_twice_is_harmless(cli):
    id = json.loads(cli("submit", "demo.echo", "value=1", "--json").out)["id"]
    again = cli("submit", "demo.echo", "value=1", "--id", id)
    assert (again.code, again.out) == (0, f"{id}\n")
    assert "was there already" in again.err
    other = cli("submit", "demo.echo", "value=2", "--id", id)
    assert (other.code, other.out) == (4, "")
    assert "(id_conflict)" in other.err


def test_bad_arguments_change_nothing(cli):
    before = [row[0] for row in cli("jobs", "--limit", "1").rows]
    ran = cli("submit", "demo.echo", "valu=1")
    assert (ran.code, ran.out) == (2, "")
    assert "valu" in ran.err and "(invalid_arguments)" in ran.err
    assert [row[0] for row in cli("jobs", "--limit", "1").rows] == before


def test_nobody_knows_the_kind(cli):
    ran = cli("submit", "nobody.knows")
    assert ran.code == 0
    assert "no live worker knows kind 'nobody.knows'" in ran.err
    assert "no live worker knows kind" in cli("job", ran.out.strip()).out
    cli("cancel", ran.out.strip())


def test_jobs_are_listed_newest_first_and_filtered(cli):
    ids = [cli("submit", "demo.echo", f"value={n}", "--tag", "listed", "--wait", "--json").json["id"] for n in range(3)]
    rows = cli("jobs", "--tag", "listed").rows
    assert [row[0] for row in rows] == ids[::-1]
    assert all(len(row) == 11 for row in rows)
    assert rows[0][1:6] == ["demo.echo", "default", "completed", "5", "1/3"]
    assert rows[0][6].endswith("Z") and rows[0][9] == "listed"
    assert [job["id"] for job in cli("jobs", "--tag", "listed", "--limit", "2", "--json").json["jobs"]] == ids[:0:-1]
    assert cli("jobs", "--tag", "listed", "--state", "running", "--state", "discarded").out == ""
    assert cli("jobs", "--tag", "listed", "--kind", "demo.sleep").out == ""
    assert cli("jobs", "--tag", "listed", "--queue", "default").rows == rows
    assert cli("jobs", "--state", "lost").code == 2


def test_a_job_is_shown(cli):
    id = cli("submit", "demo.fail", "message=oh", "--wait", "--json").json["id"]
    facts = dict(cli("job", id).rows)
    assert (facts["id"], facts["state"], facts["reason"]) == (id, "discarded", "attempts_exhausted")
    assert facts["error 1.1"] == "failed RuntimeError: oh"
    assert cli("job", id, "--follow").code == 1


def test_a_job_that_is_not_there(cli):
    ran = cli("job", NOWHERE)
    assert (ran.code, ran.out) == (3, "")
    assert f"no job {NOWHERE}" in ran.err
    assert cli("job", "17").code == 2


def test_following_prints_progress(cli):
    id = cli("submit", "demo.sleep", "seconds=3").out.strip()
    ran = cli("job", id, "--follow")
    assert ran.code == 0
    assert any(row[0] == "running" and row[2:] == ["3", "sleeping"] for row in ran.rows)
    assert ["state", "completed"] in ran.rows


def test_on_a_terminal_there_is_a_bar(cli, place):
    id = cli("submit", "demo.sleep", "seconds=60").out.strip()
    command = [sys.executable, "-m", "callboard.cli", "job", id, "--follow", "--data", str(place.directory)]
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=environment) as child:
        os.close(follower)
        shown = b""
        while b"demo.sleep running" not in shown or b"%" not in shown:
            shown += os.read(leader, 65536)
        cli("cancel", id)
        with contextlib.suppress(OSError):  # Nobody has it open any more.
            while piece := os.read(leader, 65536):
                shown += piece
        os.close(leader)
    assert child.returncode == 1
    assert "━" in shown.decode() and "\x1b[33mcancelled" in shown.decode()


def test_a_waiting_job_is_cancelled_at_once_and_can_be_retried(cli, waiting):
    assert cli("cancel", waiting).rows == [[waiting, "cancelled"]]
    assert cli("retry", waiting).rows == [[waiting, "available"]]
    assert cli("job", waiting, "--follow", "--json").json["run"] == 2
    refused = cli("cancel", waiting)
    assert (refused.code, refused.out) == (4, "")
    assert "(state_refused)" in refused.err


def test_a_running_job_is_asked_to_end(cli):
    id = cli("submit", "demo.sleep", "seconds=60").out.strip()
    while cli("job", id, "--json").json["state"] != "running":
        pass
    assert cli("cancel", id, "--json").json == {"jobs": [{"id": id, "state": "cancel_requested"}]}
    assert cli("job", id, "--follow", "--json").json["state"] == "cancelled"


def test_those_before_a_refused_one_are_told(cli, waiting):
    ran = cli("cancel", waiting, NOWHERE)
    assert (ran.code, ran.rows) == (3, [[waiting, "cancelled"]])
    ran = cli("retry", NOWHERE, "--json")
    assert (ran.code, ran.out) == (3, "")


def test_an_unfinished_job_is_not_retried(cli, waiting):
    assert cli("retry", waiting).code == 4
    cli("cancel", waiting)


def test_a_paused_queue_stands_still(cli):
    assert cli("pause", "default").rows == [["default", "paused"]]
    id = cli("submit", "demo.echo", "value=1").out.strip()
    assert cli("submit", "demo.echo", "value=2", "--wait", "--within", "0.3").code == 7
    row = next(row for row in cli("queues").rows if row[0] == "default")
    assert (row[1], row[3]) == ("paused", "2")
    assert cli("resume", "default", "--json").json == {"queues": [{"queue": "default", "paused": False}]}
    assert cli("job", id, "--follow").code == 0
    assert next(each for each in cli("queues", "--json").json["queues"] if each["queue"] == "default")["paused"] is False
    assert cli("pause", "No Such").code == 2


def test_nodes(cli):
    rows = cli("nodes").rows
    assert sorted(row[1] for row in rows) == ["domain-controller", "gateway", "registry", "site-controller", "worker"]
    worker = next(row for row in rows if row[1] == "worker")
    assert worker[8] == "4" and "demo.inspect" in worker[10]
    assert next(row for row in rows if row[1] == "gateway")[9].startswith("http://127.0.0.1:")
    assert {node["pid"] for node in cli("nodes", "--json").json["nodes"]} == {int(row[5]) for row in rows}


def test_keys(cli, eventually, place):
    made = cli("key", "create", "printer", "--scope", "jobs:read", "--json").json
    assert made["scopes"] == ["jobs:read"]
    assert cli("jobs", "--key", made["key"], "--limit", "1").code == 0
    refused = cli("submit", "demo.echo", "--key", made["key"])
    assert (refused.code, refused.out) == (4, "")
    assert "(forbidden)" in refused.err
    listed = next(row for row in cli("key", "list").rows if row[0] == made["id"])
    assert (listed[1:4], listed[5]) == (["printer", "main", "jobs:read"], "")
    assert cli("key", "revoke", made["id"]).rows[0][:2] == [made["id"], "printer"]
    ran = cli("jobs", "--key", made["key"])
    assert ran.code == 4 and "(unauthorized)" in ran.err and made["key"] not in ran.err
    assert cli("key", "create", "x", "--scope", "root").code == 2
    assert cli("key", "revoke", "000000000000").code == 3
    plain = cli("key", "create", "program")
    assert plain.out.startswith("cb_") and plain.out.count("\n") == 1


def test_a_key_reaches_its_domain_and_what_is_inside(cli):
    made = cli("key", "create", "tenant", "--domain", "acme.main", "--json").json
    assert made["domain"] == "acme.main"
    receipt = cli("submit", "demo.echo", "--delay", "900", "--key", made["key"], "--json").json
    assert receipt["domain"] == "acme.main"
    assert cli("jobs", "--domain", "acme.main").rows[0][0] == receipt["id"]
    refused = cli("jobs", "--key", made["key"], "--domain", "main")
    assert refused.code == 4 and "(forbidden)" in refused.err


def test_from_elsewhere_url_and_key_are_enough(cli, place, monkeypatch, tmp_path):
    monkeypatch.setenv("CALLBOARD_DATA", str(tmp_path / "none"))
    assert cli("jobs").code == 5
    monkeypatch.setenv("CALLBOARD_URL", place.urls[0])
    ran = cli("jobs")
    assert ran.code == 4 and "(unauthorized)" in ran.err
    monkeypatch.setenv("CALLBOARD_KEY", place.key)
    assert cli("jobs", "--limit", "1").code == 0
