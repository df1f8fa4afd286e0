"""A worker killed while it runs jobs: how long until all of them run again, on its own server or on the only other one.

Two servers share the store. The jobs in question may run on both; jobs of queues of their own hold every slot that is to be
full. What counts is from just before the kill until the last of the dead worker's jobs has begun elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from callboard import errors
from callboard.cli.bench import samples, servers_ground
from callboard.client import Client
from callboard.kit import ports

SLOTS: Final = 4
WORKERS: Final = 2
JOBS: Final = SLOTS * WORKERS // 2
"""That may run anywhere: with as many that cannot, they fill a server."""
A_DEPLOYMENT: Final = 8
"""Kills of one deployment: who dies again and again is started again later and later."""
ALL: Final = "default"
"""The queue of jobs that both servers take."""
PATIENCE_SECONDS: Final = 40.0
_HERE, _THERE = servers_ground.NAMES


class Began(msgspec.Struct, frozen=True):
    """One line of the book: which process began a job, and when, in nanoseconds of CLOCK_BOOTTIME."""

    job: str
    pid: int
    at: int


async def measure(ground: servers_ground.Ground, kills: int) -> dict[str, Any]:
    """Return how long it took after each kill, with free slots on the same server alone, and on the other server alone."""
    found: dict[str, Any] = {}
    for free in ("same server", "other server"):
        seconds: list[float] = []
        while len(seconds) < kills:
            shared = await asyncio.to_thread(ground.fresh)
            async with servers_ground.stand(shared, _servers()) as cluster, Client(cluster.urls, key=cluster.key) as client:
                for number in range(min(A_DEPLOYMENT, kills - len(seconds))):
                    seconds.append(await _Round(cluster, client, number, elsewhere=free == "other server").measure())
        found[free] = {"kills": len(seconds), **samples.milliseconds(seconds), "seconds": [round(each, 4) for each in seconds]}
    return found


def _servers() -> Mapping[str, servers_ground.Settings]:
    """Each takes the jobs that all take, and those of a queue of its own."""
    return {
        name: {
            "worker.count": WORKERS,
            "worker.slots": SLOTS,
            "worker.short_floor": 0,
            "worker.queues": [ALL, name],
            "service.count": 0,
            "gateway.count": 1,
            "gateway.port": ports.free()[0],
        }
        for name in servers_ground.NAMES
    }


class _Round:
    """One kill, with jobs, a book and gates of its own."""

    def __init__(self, cluster: servers_ground.Cluster, client: Client, number: int, *, elsewhere: bool) -> None:
        self._cluster = cluster
        self._client = client
        self._elsewhere = elsewhere
        self._book = cluster.directory / f"book-{number}"
        self._gate = cluster.directory / f"gate-{number}"

    async def measure(self) -> float:
        """Return the seconds from the kill until the last job of the dead worker ran again."""
        await self._all_ready()
        there = await self._hold(_THERE, SLOTS * WORKERS)
        filling = await self._hold(_HERE, SLOTS * WORKERS - JOBS) if self._elsewhere else []
        jobs = await self._hold(ALL, JOBS)
        if self._elsewhere:
            self._open(_THERE)
            await self._ended(there)
        victim, lost = self._victim(jobs)
        at = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        os.kill(victim.pid, signal.SIGKILL)
        await _until(lambda: self._again(lost, at).keys() == lost, "the jobs run again")
        seconds = (max(self._again(lost, at).values()) - at) / 1e9
        for queue in (ALL, _HERE, _THERE):
            self._open(queue)
        await self._ended([*there, *filling, *jobs])
        return seconds

    async def _hold(self, queue: str, jobs: int) -> list[str]:
        """Have so many jobs of a queue run until its gate is opened; return them once all run."""
        args = {"book": str(self._book), "gate": f"{self._gate}-{queue}"}
        made = await self._client.submit_many(self._client.job("bench.hold", args, queue=queue) for _ in range(jobs))
        ids = [receipt.id for receipt in made]
        await _until(lambda: {each.job for each in self._began()}.issuperset(ids), f"jobs of queue {queue} run")
        return ids

    async def _all_ready(self) -> None:
        """Wait until every worker that died is replaced by one that takes jobs."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                living = {node.incarnation for name in servers_ground.NAMES for node in self._workers(name)}
                told = {each["incarnation"] for each in await self._client.nodes() if _works(each)}
                if len(living) == len(servers_ground.NAMES) * WORKERS and living <= told:
                    return
                await asyncio.sleep(0.1)

    def _open(self, queue: str) -> None:
        Path(f"{self._gate}-{queue}").touch()

    async def _ended(self, ids: Iterable[str]) -> None:
        await asyncio.gather(*(self._client.wait(id, PATIENCE_SECONDS) for id in ids))

    def _workers(self, server: str) -> list[servers_ground.Node]:
        return self._cluster.nodes(server, "worker")

    def _victim(self, jobs: Iterable[str]) -> tuple[servers_ground.Node, set[str]]:
        """Return the worker of the first server that runs the most of these jobs, and which."""
        runs = {each.job: each.pid for each in self._began()}
        held = {worker: {job for job in jobs if runs[job] == worker.pid} for worker in self._workers(_HERE)}
        victim = max(held, key=lambda worker: len(held[worker]))
        if not held[victim]:
            raise errors.StartupError("the first server runs none of the jobs that both take")
        return victim, held[victim]

    def _again(self, lost: set[str], since: int) -> dict[str, int]:
        """Return when each of these jobs began anew, of those that did."""
        return {each.job: each.at for each in self._began() if each.job in lost and each.at > since}

    def _began(self) -> list[Began]:
        if not self._book.exists():
            return []
        lines = self._book.read_text().split("\n")[:-1]
        return [Began(job, int(pid), int(at)) for job, pid, at in (line.split() for line in lines)]


def _works(node: Mapping[str, Any]) -> bool:
    """Tell of what a node says of itself whether it takes jobs."""
    return any(role["role"] == "worker" for role in node["roles"])


async def _until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise errors.StartupError(f"it did not happen within {PATIENCE_SECONDS:g} s that {what}")
        await asyncio.sleep(0.01)
