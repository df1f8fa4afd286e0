"""Processes are known by pid and start time, and watched through pidfds."""

import os
import signal
import subprocess
import sys

import pytest

from callboard.node import processes


@pytest.fixture
def child():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as made:
        yield made
        made.kill()


def test_this_process_is_known():
    assert processes.this() == processes.identified(os.getpid())
    assert processes.status(os.getpid()).state == "R"


def test_an_odd_command_name_does_not_confuse(tmp_path):
    odd = tmp_path / "a) R 1 (b"
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([str(odd), "60"]) as made:
        try:
            pidfd = processes.opened(processes.identified(made.pid))
            assert pidfd is not None
            os.close(pidfd)
        finally:
            made.kill()


def test_the_end_is_seen(child):
    pidfd = processes.opened(processes.identified(child.pid))
    assert not processes.ended(pidfd)
    processes.send(pidfd, signal.SIGKILL)
    assert processes.ended(pidfd, 5)
    assert processes.status(child.pid).state == "Z"
    assert processes.opened(processes.identified(child.pid)) is None
    child.wait()
    assert processes.status(child.pid) is None
    processes.send(pidfd, signal.SIGKILL)
    os.close(pidfd)


def test_another_process_of_the_same_pid_is_not_taken(child):
    found = processes.identified(child.pid)
    assert processes.opened(processes.Process(found.pid, found.started + 1)) is None


def test_a_stopped_one_is_seen(child):
    os.kill(child.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    assert processes.status(child.pid).state == "T"
