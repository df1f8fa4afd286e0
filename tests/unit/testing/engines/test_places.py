from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from callboard.testing.engines import places, servers
from tests.conftest import INSTALL

PORT = 4000
LISTENER = """
import socket, sys
with socket.create_server((sys.argv[1], int(sys.argv[2]))) as listening:
    print("ready", flush=True)
    while True:
        listening.accept()[0].close()
"""
CALLER = """
import socket, sys
socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=float(sys.argv[3])).close()
"""
OWNER = """
import sys
from callboard.testing.engines import places
network = places.Network(2)
network.start()
print(network.hosts[0].address, flush=True)
sys.stdin.read()
"""

REASON = places.available()

pytestmark = pytest.mark.skipif(REASON is not None, reason=f"needs network namespaces ({REASON}): {INSTALL}")


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.fixture
def network(temporary, tmp_path: Path):
    """Three hosts, each with a server that accepts."""
    with places.Network(3) as network:
        listening = []
        for number, host in enumerate(network.hosts):
            command = [*host.prefix, sys.executable, "-c", LISTENER, host.address, str(PORT)]
            listening.append(servers.Server(tmp_path, f"listener-{number}", command))
            listening[-1].start()
        servers.wait_for(lambda: all("ready" in each.said() for each in listening), "all listen", 60)
        yield network
        for each in listening:
            each.kill()


def reaches(caller: places.Host | None, host: places.Host, seconds: float = 5) -> bool:
    prefix = caller.prefix if caller else []
    command = [*prefix, sys.executable, "-c", CALLER, host.address, str(PORT), str(seconds)]
    return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0


def own_addresses() -> str:
    return subprocess.run(["ip", "-oneline", "addr"], capture_output=True, text=True, check=True).stdout


def test_hosts_reach_each_other_until_one_is_cut_off_and_again_when_it_is_healed(network):
    first, second, third = network.hosts
    assert reaches(None, first) and reaches(first, second) and reaches(third, first)
    first.cut()
    first.cut()
    assert not any([reaches(None, first, 0.3), reaches(first, second, 0.3), reaches(second, first, 0.3)])
    assert reaches(first, first) and reaches(second, third) and reaches(None, third)
    first.heal()
    assert reaches(None, first) and reaches(first, second)
    second.cut()
    third.cut()
    network.heal()
    assert reaches(second, third)


def test_what_is_connected_hears_nothing_while_it_is_cut_off(network):
    (first, *_) = network.hosts
    with socket.create_connection((first.address, PORT), timeout=5) as before:
        assert before.recv(1) == b""  # It hung up at once.
        first.cut()
        with socket.socket() as later:
            later.settimeout(0.3)
            with pytest.raises(TimeoutError):
                later.connect((first.address, PORT))


def test_a_program_in_a_host_keeps_its_pid(network, tmp_path):
    sleeper = servers.Server(tmp_path, "sleeper", [*network.hosts[0].prefix, "sleep", "60"])
    sleeper.start()
    servers.wait_for(lambda: os.readlink(f"/proc/{sleeper.identity.pid}/exe").endswith("sleep"), "it sleeps", 5)
    sleeper.kill()
    assert not sleeper.running


def test_two_networks_keep_apart(network):
    with places.Network(1) as other:
        (host,) = other.hosts
        assert host.address not in [each.address for each in network.hosts]
        assert not reaches(host, network.hosts[0], 0.3)


def test_nothing_is_left(temporary):
    with places.Network(2) as network:
        place = network.hosts[0].address.rpartition(".")[0]
        assert network.here == f"{place}.254" and f"{network.here}/24" in own_addresses()
    network.close()
    servers.wait_for(lambda: f"{place}." not in own_addresses(), "the links are gone", 5)


@pytest.mark.parametrize("number", ["KILL", "TERM"])
def test_it_ends_with_its_run_however_that_ends(temporary, number):
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    place = owner.stdout.readline().strip().rpartition(".")[0]
    assert f"{place}.254/24" in own_addresses()
    getattr(owner, {"KILL": "kill", "TERM": "terminate"}[number])()
    owner.communicate()
    servers.wait_for(lambda: f"{place}." not in own_addresses(), "the keeper cleared up", 60)


def test_it_says_why_not(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert places.available() == "network namespaces are made by root alone"
    monkeypatch.setattr(servers, "program", lambda name: None if name == "ip" else name)
    assert places.available() == "there is no ip"
