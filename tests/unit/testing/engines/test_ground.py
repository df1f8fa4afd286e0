from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from callboard.node import processes
from callboard.testing.engines import ground, servers

OWNER = """
import sys
from callboard.testing.engines import ground, servers
made = ground.Ground()
servers.Server(made.directory, "sleeper", ["sleep", "60"]).start()
print(made.directory, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


def _sleeper(directory: Path) -> processes.Process:
    return ground._decode((directory / "sleeper.process").read_bytes())


def _gone(process: processes.Process) -> bool:
    pidfd = processes.opened(process)
    if pidfd is not None:
        os.close(pidfd)
    return pidfd is None


def test_clearing_kills_and_removes():
    made = ground.Ground()
    server = servers.Server(made.directory, "sleeper", ["sleep", "60"])
    server.start()
    made.clear()
    made.clear()
    assert not server.running and not made.directory.exists()


@pytest.mark.parametrize("number", ["KILL", "TERM"])
def test_servers_end_with_their_run_however_it_ends(number):
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    directory = Path(owner.stdout.readline().strip())
    sleeper = _sleeper(directory)
    getattr(owner, {"KILL": "kill", "TERM": "terminate"}[number])()
    owner.communicate()
    servers.wait_for(lambda: not directory.exists() and _gone(sleeper), "the keeper cleared up", 60)


def test_what_a_keeper_left_the_next_run_sweeps(tmp_path):
    left = tmp_path / "run-left"
    left.mkdir()
    server = servers.Server(left, "sleeper", ["sleep", "60"])
    server.start()
    past = processes.Process(os.getpid(), 1)  # Our pid, before it was ours.
    (left / "owner.process").write_bytes(ground._encode(past))
    ours = tmp_path / "run-ours"
    ours.mkdir()
    (ours / "owner.process").write_bytes(ground._encode(processes.this()))
    ground.sweep(tmp_path)
    assert not server.running and not left.exists() and ours.exists()


def test_a_pid_that_was_given_away_is_left_alone(tmp_path):
    directory = tmp_path / "run-old"
    directory.mkdir()
    ground.write_down(directory, "innocent", processes.Process(os.getpid(), 1))
    ground.clear(directory)
    assert not directory.exists()


def test_a_template_is_made_once(tmp_path):
    made = []

    def make(directory: Path) -> None:
        made.append(directory)
        (directory / "data").write_text("whole")

    first, second = ground.Ground(), ground.Ground()
    kept = first.template("thing-1", make)
    assert second.template("thing-1", make) == kept and len(made) == 1
    assert (second.copied(kept, "copy") / "data").read_text() == "whole"
    first.clear()
    second.clear()
    assert [path.name for path in kept.parent.iterdir()] == ["template-thing-1"]


def test_of_two_who_make_a_template_one_prevails():
    first, second = ground.Ground(), ground.Ground()

    def make(directory: Path) -> None:
        if directory.parent == first.directory:
            second.template("thing-1", make)
        (directory / "maker").write_text(directory.parent.name)

    kept = first.template("thing-1", make)
    assert (kept / "maker").read_text() == second.directory.name
    first.clear()
    second.clear()


def test_what_was_not_finished_is_no_template():
    made = ground.Ground()

    def make(directory: Path) -> None:
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError):
        made.template("thing-1", make)
    assert not (made.directory.parent / "template-thing-1").exists()
    made.clear()


def test_another_recipe_has_another_mark():
    assert ground.recipe("a", "b") == ground.recipe("a", "b") != ground.recipe("ab")


def test_accounts_matter_to_root_alone(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert ground.account("root") == "root" and ground.known("root") and not ground.known("no such account")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert ground.account("root") is None and ground.known("no such account")
