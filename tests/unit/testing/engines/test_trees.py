from __future__ import annotations

import os
import subprocess

import pytest

from callboard.node import processes
from callboard.testing.engines import servers, trees

SHELL = """
setsid sleep 61 &
(sleep 62 &)
sh -c 'sleep 63; true' &
sleep 64
"""


@pytest.fixture
def root():
    """A process with a child in a session of its own, one that lost its parent, and a grandchild."""
    shell = subprocess.Popen(["sh", "-c", SHELL], start_new_session=True)
    made = processes.identified(shell.pid)
    servers.wait_for(lambda: len(trees.members(made)) == 5, "all have started", 5)
    yield made
    trees.kill(made)
    shell.wait()


def _states(found):
    return [status.state for process in found if (status := processes.status(process.pid)) and status.started == process.started]


def test_all_are_frozen_and_go_on(root):
    everybody = [root, *trees.members(root)]
    trees.freeze(root)
    servers.wait_for(lambda: _states(everybody) == ["T"] * 6, "all are frozen", 5)
    trees.cont(root)
    servers.wait_for(lambda: "T" not in _states(everybody), "all go on", 5)


def test_all_are_killed_frozen_or_not(root):
    everybody = trees.members(root)
    trees.freeze(root)
    trees.kill(root)
    trees.kill(root)
    assert set(_states([root, *everybody])) <= {"Z"}


def test_whoever_has_the_pid_now_is_left_alone(root):
    before = processes.Process(root.pid, root.started - 1)
    trees.freeze(before)
    trees.cont(before)
    trees.kill(before)
    assert trees.members(before) == [] and _states([root]) != ["T"] and os.getsid(root.pid) == root.pid
