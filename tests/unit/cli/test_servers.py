"""`agent`, `systemd`, `config`: which settings come of a file, what is printed, and what a supervisor hears.

That servers run by them is in `tests/acceptance`.
"""

import asyncio
import json
import shlex
import socket
from pathlib import Path

import pytest

from callboard import errors, settings
from callboard.cli import configuration, program, publishing, servers, supervisor
from callboard.cluster import pushed
from callboard.coordination import engines

FILE = """\
version = 2
store.url = "mysql://u:secret@db/callboard"
coordination.url = "zookeeper://127.0.0.1:2181/acme"
app = "shop:app"
[servers.alpha]
address = "10.0.0.1"
gateway.count = 2
worker.count = 0
[servers.auto]
data = "/var/lib/callboard/%1"
gateway.count = 0
worker.grace_seconds = 60.5
worker.queues = ["a", "b"]
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = tmp_path / "cluster.toml"
    found.write_text(FILE)
    return found


def test_a_server_is_the_one_of_the_hosts_name(file, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "alpha.example")
    cluster = configuration.cluster(None)
    given = servers.given_for(cluster, None, None, {})
    assert (given.wire.server, given.wire.host, given.gateway.count) == ("alpha", "10.0.0.1", 2)
    monkeypatch.setattr(socket, "gethostname", lambda: "other")
    given = servers.given_for(cluster, None, None, {"worker.count": "7"})
    assert (given.wire.server, given.wire.host, given.worker.count) == ("other", "127.0.0.1", 7)
    monkeypatch.setenv("CALLBOARD_WORKER_COUNT", "5")
    assert servers.given_for(cluster, "alpha", None, {}).worker.count == 5


def test_check_prints_what_each_server_runs(file, capsys):
    assert program.run(["config", "check"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        ["alpha", "main", "10.0.0.1", "127.0.0.1:8321 127.0.0.1:8322", "none", "shop:app", "", "", "2"],
        ["(others)", "main", "(found at its start)", "none", "2 of 16 slots", "shop:app", "main", "a b", "2"],
    ]
    assert program.run(["config", "check", str(file), "--json"]) == 0
    said = capsys.readouterr().out
    assert json.loads(said)["version"] == 2 and "secret" not in said


def test_check_prints_of_the_how_tos_file_what_the_how_to_shows(file, capsys):
    page = (Path(__file__).parents[3] / "docs/howto/operate/three-servers.md").read_text()
    file.write_text(page.partition("```toml\n")[2].partition("```")[0])
    assert program.run(["config", "check"]) == 0
    assert f"```text\n{capsys.readouterr().out}```" in page


def test_check_prints_all_that_is_wrong(file, capsys):
    file.write_text(FILE.replace("worker.count", "worker.cuont").replace("[servers.auto]", "[servers.Auto]"))
    assert program.run(["config", "check"]) == 2
    said = capsys.readouterr()
    assert (
        said.out == "" and [line.partition(": ")[2].partition(":")[0] for line in said.err.splitlines()] == ["cluster.toml"] * 3
    )
    assert program.run(["agent"]) == 2
    assert capsys.readouterr().err.endswith("(and 2 more: callboard config check cluster.toml) (invalid_setting)\n")


def test_a_file_that_is_not_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for command in (["agent"], ["config", "check"], ["config", "push"], ["systemd", "--config", "cluster.toml"]):
        assert program.run(command) == 2
        assert "cluster.toml cannot be read" in capsys.readouterr().err


def test_a_file_of_one_server_is_for_nobody_else(file, capsys):
    file.write_text("version = 1\n[servers.alpha]\n")
    assert program.run(["config", "push"]) == 2
    assert "one server" in capsys.readouterr().err


def test_a_unit_starts_the_server_with_the_file(file, capsys):
    assert program.run(["systemd", "--config", "cluster.toml", "--server", "beta", "--user", "jobs"]) == 0
    unit = dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines() if "=" in line)
    assert shlex.split(unit["ExecStart"])[-5:] == ["agent", "--config", str(file), "--server", "beta"]
    assert shlex.split(unit["ExecReload"])[-3:] == ["reload", "--data", "/var/lib/callboard/%%1"]
    assert (unit["Type"], unit["User"], unit["WorkingDirectory"]) == ("notify", "jobs", str(file.parent))
    assert (unit["StateDirectory"], unit["TimeoutStopSec"], unit["KillMode"]) == ("callboard/%%1", "81", "mixed")


def test_a_unit_without_a_file_is_for_one_machine(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert program.run(["systemd", "--json"]) == 0
    unit = json.loads(capsys.readouterr().out)["unit"]
    assert f"WorkingDirectory={tmp_path}\n" in unit and " up\n" in unit and "StateDirectory" not in unit


def test_a_path_that_a_unit_cannot_hold_is_refused(tmp_path, monkeypatch, capsys):
    (tmp_path / "a b").mkdir()
    monkeypatch.chdir(tmp_path / "a b")
    assert program.run(["systemd"]) == 2
    assert "unit file" in capsys.readouterr().err


# What was published


@pytest.fixture
def given(tmp_path):
    return settings.load(flags={"coordination.url": f"local://{tmp_path}/coordination"})


def publish(given, version, text):
    async def put():
        opened = engines.open(given.coordination_url)
        session = await opened.session("test")
        await pushed.push(session, version=version, text=text, cluster="acme")
        await session.close()
        await opened.close()

    asyncio.run(put())


def test_who_has_the_newest_file_stands(given, capsys):
    assert publishing.compared(given, 1, "text").stands
    publish(given, 2, "text")
    assert publishing.compared(given, 2, "text") == given and publishing.compared(given, 3, "newer") == given
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("version", "text", "why"), [(1, "text", "version 2 was pushed"), (2, "other", "another file of version 2")]
)
def test_who_has_an_older_file_stands_for_nothing_and_says_so(given, capsys, version, text, why):
    publish(given, 2, "text")
    assert not publishing.compared(given, version, text).stands
    said = capsys.readouterr().err
    assert why in said and "stands for no office" in said


def test_what_cannot_be_compared_is_said(tmp_path, capsys):
    (tmp_path / "coordination").write_text("in the way")
    given = settings.load(flags={"coordination.url": f"local://{tmp_path}/coordination"})
    assert publishing.compared(given, 1, "text").stands
    assert "is not known" in capsys.readouterr().err


# Supervisors


@pytest.mark.parametrize("abstract", [False, True])
def test_a_supervisor_hears_from_who_claimed_it_that_it_is_ready_and_starts_anew(tmp_path, monkeypatch, abstract):
    name = f"\0{tmp_path}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(name)
        heard.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name.replace("\0", "@"))
        watched = supervisor.claim()
        supervisor.claim().ready()
        watched.ready()
        assert heard.recv(100) == b"READY=1"
        watched.reloading()
        assert heard.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert watched.environment == {"NOTIFY_SOCKET": name.replace("\0", "@")}


def test_without_a_supervisor_nothing_is_said(monkeypatch, tmp_path):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    supervisor.claim().ready()
    assert supervisor.claim().environment == {}
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    supervisor.claim().ready()


def test_errors_are_those_of_the_tree(file):
    with pytest.raises(errors.NotFound):
        file.write_text("version = 1\n[servers.alpha]\n")
        servers.given_for(configuration.cluster(file), "beta", None, {})
