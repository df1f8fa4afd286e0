from __future__ import annotations

import os

import pytest

from callboard.node import processes
from callboard.testing.engines import servers


@pytest.fixture
def server(tmp_path):
    made = servers.Server(tmp_path, "sleeper", ["sleep", "60"])
    yield made
    made.kill()


def test_started_frozen_and_killed(server, tmp_path):
    assert not server.running
    server.start()
    server.start()
    (written,) = tmp_path.glob("*.process")
    pid = int(written.read_text().partition('"pid":')[2].partition(",")[0])
    assert server.running and os.getsid(pid) == pid
    server.freeze()
    servers.wait_for(lambda: processes.status(pid).state == "T", "it is frozen", 5)
    server.cont()
    servers.wait_for(lambda: processes.status(pid).state != "T", "it goes on", 5)
    server.freeze()
    server.kill()
    assert not server.running


def test_stopped_and_started_again(server):
    server.start()
    server.freeze()
    server.stop()
    assert not server.running
    server.stop()
    server.start()
    assert server.running


def test_one_that_does_not_want_to_end_is_killed(tmp_path):
    deaf = servers.Server(tmp_path, "deaf", ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"])
    deaf.start()
    servers.wait_for(lambda: deaf.said() == "ready", "it began", 5)
    deaf.stop(seconds=0.1)
    assert not deaf.running


def test_waiting_names_what_did_not_come():
    with pytest.raises(TimeoutError, match=r"the moon: not within 0\.05 s"):
        servers.wait_for(lambda: None, "the moon", 0.05)
