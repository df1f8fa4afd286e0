"""Gateways killed one after another while clients go on asking: what failed, how long the others took, what was tried again.

Requests come at their times whether or not those before them were answered, and are timed from when they were due: a second
in which nothing is answered counts with all its requests. Clients know every gateway of both servers.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from callboard import errors
from callboard.cli.bench import samples, servers_ground
from callboard.client import Client
from callboard.kit import ports

GATEWAYS: Final = 3
"""Of each server."""
RATE: Final = 200
"""Requests a second, of all clients together."""
CLIENTS: Final = 8
BETWEEN_SECONDS: Final = 2.0
"""Between two kills."""
WARM_UP_SECONDS: Final = 2.0
END_SECONDS: Final = 60.0
"""In which the last jobs end."""


async def measure(ground: servers_ground.Ground, kills: int) -> dict[str, Any]:
    """Return what became of the requests: half of them submissions, the others asking what became of a job."""
    shared = await asyncio.to_thread(ground.fresh)
    async with servers_ground.stand(shared, _servers()) as cluster, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(cluster.urls, key=cluster.key)) for _ in range(CLIENTS)]
        load = _Load(clients)
        killing = asyncio.create_task(_kill(cluster, kills))
        await load.run(killing)
        times = await killing
        lost = await load.lost()
        return {
            "gateways": GATEWAYS * len(cluster.servers),
            "kills": len(times),
            "seconds_between": round((times[-1] - times[0]) / max(len(times) - 1, 1), 2),
            "requests": len(load.seconds) + sum(load.failed.values()),
            "failed": dict(load.failed),
            "jobs_lost": lost,
            "retries": sum(client.retries for client in clients),
            **samples.milliseconds(load.seconds),
            "killed_at": [round(each, 1) for each in times],
            "slowest_ms_by_second": load.slowest(),
        }


def _servers() -> Mapping[str, servers_ground.Settings]:
    return {
        name: {
            "worker.count": 1,
            "service.count": 0,
            "gateway.count": GATEWAYS,
            "gateway.port": ports.free(GATEWAYS)[0],
        }
        for name in servers_ground.NAMES
    }


async def _kill(cluster: servers_ground.Cluster, kills: int) -> list[float]:
    """Kill the gateway that has lived longest, again and again, but never the last one; return when, in seconds from now.

    A machine that cannot start them as fast as they are killed gets more time, which the figures tell.
    """
    times: list[float] = []
    start = time.monotonic()
    await asyncio.sleep(WARM_UP_SECONDS)
    while len(times) < kills:
        began = time.monotonic()
        standing = await asyncio.to_thread(_standing, cluster)
        if len(standing) > 1:
            os.kill(standing[0].pid, signal.SIGKILL)
            times.append(began - start)
        await asyncio.sleep(BETWEEN_SECONDS - (time.monotonic() - began) if len(standing) > 1 else 0.05)
    return times


def _standing(cluster: servers_ground.Cluster) -> list[servers_ground.Node]:
    """Return the gateways that accept connections, the oldest first."""
    found = []
    for name, server in cluster.servers.items():
        places = [urlsplit(url) for url in server.urls]
        for node in cluster.nodes(name, "gateway"):
            with contextlib.suppress(OSError):
                socket.create_connection((places[node.index].hostname, places[node.index].port), timeout=0.2).close()
                found.append(node)
    return sorted(found, key=lambda node: node.incarnation)


class _Load:
    """Requests at their times. `seconds` is how long each took that was answered, `failed` counts the others by what they met."""

    def __init__(self, clients: list[Client]) -> None:
        self.seconds: list[float] = []
        self.failed: Counter[str] = Counter()
        self._clients = clients
        self._jobs: list[str] = []
        self._slowest: dict[int, float] = {}

    async def run(self, until: asyncio.Future[Any]) -> None:
        """Ask until that is done; return when everything is answered."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in itertools.takewhile(lambda _: not until.done(), itertools.count()):
                due = began + number / RATE
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                group.create_task(self._request(number, due, int(due - began)))

    async def _request(self, number: int, due: float, second: int) -> None:
        client = self._clients[number % CLIENTS]
        try:
            if number // CLIENTS % 2 == 0 or not self._jobs:
                receipt = await client.submit("bench.noop", {"n": number})
                self._jobs.append(receipt.id)
            else:
                await client.get(self._jobs[-1])
        except errors.CallboardError as error:
            self.failed[error.code] += 1
        else:
            took = time.monotonic() - due
            self.seconds.append(took)
            self._slowest[second] = max(self._slowest.get(second, 0.0), took)

    def slowest(self) -> list[float]:
        """Return the slowest request of those that were due in each second, in milliseconds."""
        return [round(self._slowest.get(second, 0.0) * 1e3, 1) for second in range(max(self._slowest) + 1)]

    async def lost(self) -> int:
        """Return how many of the jobs that were acknowledged have not completed in the end."""
        open_ = set(self._jobs)
        with contextlib.suppress(errors.WaitTimeout):
            async with contextlib.aclosing(self._clients[0].results(self._jobs, END_SECONDS)) as ended:
                async for job in ended:
                    if job.state == "completed":
                        open_.discard(job.id)
        return len(open_)
