"""What surrounds the demo's own Callboard."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from callboard import errors
from callboard.cli.demo import deployment
from callboard.node import processes


def test_settings_of_the_caller_do_not_reach_it(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CALLBOARD_WORKER_SLOTS", "999")
    monkeypatch.setenv("PYTHONPATH", f"src{os.pathsep}/abs")
    found = deployment._environment()
    assert not any(name.startswith("CALLBOARD_") for name in found)
    assert found["PYTHONPATH"] == f"{tmp_path}/src{os.pathsep}/abs"


def test_only_the_very_process_is_signalled():
    with idle() as child:
        identity = processes.identified(child.pid)
        other = {"pid": child.pid, "pid_started": identity.started + 1}
        deployment.kill(other, signal.SIGKILL)
        assert child.poll() is None
        deployment.kill({"pid": child.pid, "pid_started": identity.started}, signal.SIGKILL)
        assert child.wait(10) == -signal.SIGKILL


def test_leftovers_are_found_by_the_directory_and_ended(tmp_path):
    with idle("callboard.node", tmp_path / "data") as left, idle(tmp_path / "agent.log") as reader:
        assert deployment._end_leftovers(tmp_path) == [left.pid]
        assert left.wait(10) == -signal.SIGKILL
        assert deployment._end_leftovers(tmp_path) == []
        assert reader.poll() is None


def idle(*arguments):
    """A process that surely runs, and ends with its input."""
    command = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def test_one_that_cannot_start_says_why_and_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(errors.StartupError, match=r"worker\.slots"), deployment.running(gateways=1, workers=1, slots=0):
        pytest.fail("it started")
    assert list(tmp_path.iterdir()) == []
