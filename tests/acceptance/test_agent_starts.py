"""Starting and stopping: what cannot work is said in one line and leaves nothing behind; what works leaves nothing after."""

from __future__ import annotations

import os
import signal
import socket
import stat

import pytest

from callboard import errors
from callboard.node import layout
from callboard.rpc import hub
from tests.acceptance.agents import Machine, stop


def refused(machine: Machine, **flags: object) -> tuple[str, str]:
    """Start an agent that fails; return its code and its message."""
    agent = machine.start(**flags)
    said = machine.said(agent)
    assert agent.wait(20) == 3
    assert "\n" not in said["message"] and "Traceback" not in machine.log()
    return said["code"], said["message"]


def test_it_brings_up_what_is_asked_for_and_takes_all_of_it_down(machine: Machine):
    agent = machine.up(worker__count=2, gateway__count=1)
    assert machine.started["urls"] == [f"http://127.0.0.1:{machine.port}"]
    assert machine.started["new_key"].startswith("cb_") and machine.started["adopted"] == 0
    pids = [*machine.pids().values(), *machine.pids("gateway").values()]
    assert len(pids) == 3
    # The app has no services: one service node found that out for all.
    machine.until(lambda: "exit_code=76" in machine.log())
    assert machine.log().count('event="node started"') == 4
    assert not machine.pids("service")
    for name in ("hub.json", "local.json"):
        assert stat.S_IMODE((machine.data / name).stat().st_mode) == 0o600
    local = layout.read_local(machine.place.local)
    assert local is not None and local.key == machine.started["new_key"]
    assert local.key not in machine.log()

    stopped = stop(machine)
    assert (stopped.agent, stopped.orphans, stopped.killed) == (True, 0, 0)
    assert agent.wait(5) == 0
    assert all(machine.gone(pid) for pid in pids)
    assert not machine.place.hub.exists() and not list(machine.place.nodes.glob("*.json"))
    assert not list((machine.data / "sessions").iterdir())
    with pytest.raises(errors.NotRunning, match="nothing runs"):
        stop(machine)

    machine.up(gateway__count=1)
    assert machine.started["new_key"] is None  # It was made once.
    again = layout.read_local(machine.place.local)
    assert again is not None and again.key == local.key


def test_a_second_agent_is_refused_and_changes_nothing(machine: Machine):
    machine.up()
    before = machine.pids()
    address = hub.read_address(machine.place.hub)
    code, message = refused(machine)
    assert code == errors.AlreadyRunning.code and "callboard down --data" in message
    assert machine.pids() == before and hub.read_address(machine.place.hub) == address


def test_a_port_in_use_is_named(machine: Machine):
    with socket.create_server(("127.0.0.1", machine.port)):
        code, message = refused(machine, gateway__count=1)
    assert code == errors.PortInUse.code and str(machine.port) in message
    assert not machine.pids() and not machine.pids("gateway") and not machine.place.hub.exists()


@pytest.mark.parametrize(
    ("app", "says"),
    [
        ("absent:app", "No module named 'absent'"),
        ("broken:app", "ZeroDivisionError"),
    ],
)
def test_an_app_that_cannot_be_imported_is_named(machine: Machine, app: str, says: str):
    (machine.home / "broken.py").write_text("1 / 0\n")
    code, message = refused(machine, app=app)
    assert code == errors.AppNotFound.code and says in message and app in message
    assert not machine.pids()


def test_a_data_directory_that_is_a_file_is_named(machine: Machine):
    machine.data.write_text("")
    code, message = refused(machine)
    assert code == errors.DataUnusable.code and str(machine.data) in message
    machine.data.unlink()


def test_a_store_of_one_process_is_refused(machine: Machine):
    code, message = refused(machine, store__url="memory:")
    assert code == errors.Unsupported.code and "a memory store" in message


def test_a_foreign_database_is_named(machine: Machine):
    machine.data.mkdir()
    (machine.data / "callboard.db").write_text("Dear diary, today I was not a database at all.")
    code, _ = refused(machine)
    assert code == errors.StoreForeign.code


def test_a_failed_start_leaves_survivors_at_work(machine: Machine):
    agent = machine.up()
    before = machine.pids()
    agent.kill()
    agent.wait()
    with socket.create_server(("127.0.0.1", machine.port)):
        code, _ = refused(machine, gateway__count=1)
    assert code == errors.PortInUse.code
    assert machine.pids() == before


def test_control_c_stops_all(machine: Machine):
    agent = machine.up()
    pid = machine.pid()
    agent.send_signal(signal.SIGINT)
    assert agent.wait(30) == 0 and machine.gone(pid)


def test_a_second_signal_does_not_wait_for_handlers(machine: Machine):
    agent = machine.up(worker__grace_seconds=60)
    pid = machine.pid()
    os.kill(pid, signal.SIGSTOP)  # It cannot stop by itself.
    agent.send_signal(signal.SIGTERM)
    machine.until(lambda: "event=stopping" in machine.log())
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(30) == 0 and machine.gone(pid)


def test_a_stop_while_it_starts_leaves_nothing(machine: Machine):
    (machine.home / "slow.py").write_text("import time\ntime.sleep(1)\nfrom own import app\n")
    agent = machine.start(app="slow:app")
    machine.until(lambda: list(machine.place.nodes.glob("*.json")))
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(30) == 0
    assert not machine._running()
