"""The machine of a gateway is gone without a word while a client waits for its answer: the client soon asks another one."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from callboard import errors
from callboard.http import client
from callboard.testing.engines import places, servers
from tests.conftest import INSTALL
from tests.faults.conftest import Measured
from tests.faults.deployment import boot

PORT = 8321
DUMB = """
import signal, socket, sys
with socket.create_server((sys.argv[1], int(sys.argv[2]))) as listener:
    print("ready", flush=True)
    connection, _ = listener.accept()
    print("asked", connection.recv(1), flush=True)
    signal.pause()
"""
"""Accepts one connection, hears, and never answers."""
NOTICED_SECONDS = client.SILENT_SECONDS + 2.0
PATIENCE_SECONDS = 30.0


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[tuple[places.Host, servers.Server]]:
    if reason := places.available():
        pytest.skip(f"needs network namespaces ({reason}): {INSTALL}")
    with places.Network(1) as network:
        (host,) = network.hosts
        made = servers.Server(tmp_path, "dumb", [*host.prefix, sys.executable, "-c", DUMB, host.address, str(PORT)])
        made.start()
        servers.wait_for(lambda: "ready" in made.said(), "it listens", PATIENCE_SECONDS)
        yield host, made
        made.kill()


async def test_a_client_notices_that_the_machine_is_gone(gateway: tuple[places.Host, servers.Server], measured: Measured):
    host, dumb = gateway
    url = f"http://{host.address}:{PORT}"
    gateways = client.Gateways([url], {}, timeout=PATIENCE_SECONDS, patience=PATIENCE_SECONDS)
    asking = asyncio.create_task(gateways.ask("POST", "/", repeatable=False))
    await asyncio.to_thread(servers.wait_for, lambda: "asked" in dumb.said(), "it is asked", PATIENCE_SECONDS)
    host.cut()
    at = boot()
    with pytest.raises(errors.Unreachable):
        await asking
    await gateways.close()
    measured("a gateway's machine gone to its client noticing", (boot() - at) / 1e9, NOTICED_SECONDS)
