"""A node's process, seen from the agent that answers for it."""

import os
import signal
import subprocess
import sys

import pytest

from callboard import settings
from callboard.node import children, layout, processes


@pytest.fixture
def child():
    """A process that waits for its input to end."""
    waiting = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    made = subprocess.Popen(waiting, stdin=subprocess.PIPE, start_new_session=True)
    yield made
    made.stdin.close()


async def test_a_signal_to_one_that_is_dead_by_now_does_nothing(child, tmp_path):
    """As when a second SIGTERM cuts short the stop of several nodes of which some have ended."""
    record = layout.NodeRecord(
        incarnation="1" * 32, role="worker", directory="/", settings=settings.load(None, None, {"data": str(tmp_path)})
    )
    ended = []
    ward = children.Ward(record, processes.identified(child.pid), os.pidfd_open(child.pid), ended.append, child)
    ward.signal(signal.SIGKILL)
    await ward.dead.wait()
    ward.signal(signal.SIGTERM)
    assert ended == [ward] and ward.exit_code == -signal.SIGKILL
