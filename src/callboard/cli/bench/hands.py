"""Two processes that insert, claim and end jobs at the same time: with a bare driver, or straight on a job engine.

    python -m callboard.cli.bench.hands raw | engine

A process reads the store's URL and then commands from its standard input, does them, and writes when it began and ended
(CLOCK_MONOTONIC) and how many jobs it did. `Pair` is the side that asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from callboard import errors
from callboard.cli.bench import engine_hand, raw

HANDS: Final = 2
"""Processes: as many as there are workers beside them."""
BATCH: Final = 500
"""Jobs a statement and commit."""
_DRIVERS: Final = {
    "mysql": "raw_mysql",
    "mariadb": "raw_mysql",
    "postgresql": "raw_postgresql",
    "postgres": "raw_postgresql",
    "zookeeper": "raw_zookeeper",
}


def has_raw(url: str) -> bool:
    """Tell whether there is a bare driver's limit to measure."""
    return url.partition(":")[0] in _DRIVERS


def take(kind: str, url: str) -> raw.Hand:
    """Return the hand of a kind, `raw` or `engine`, connected to a store."""
    return engine_hand.Hand(url) if kind == "engine" else driver(url).Hand(url)


def driver(url: str) -> raw.Driver:
    """Return the module of the bare driver for a store's URL."""
    made: Any = importlib.import_module(f"callboard.cli.bench.{_DRIVERS[url.partition(':')[0]]}")
    driver: raw.Driver = made
    return driver


class Worker:
    """What one process does with its hand. Each command returns how many jobs it did."""

    def __init__(self, hand: raw.Hand) -> None:
        self._hand = hand
        self._claims: list[list[Any]] = []

    def create(self, jobs: int) -> int:
        self._hand.create()
        return jobs

    def insert(self, jobs: int) -> int:
        for _ in range(jobs // BATCH):
            self._hand.insert(BATCH)
        return jobs

    def claim(self, jobs: int) -> int:
        """Claim until `jobs` are had, or none is left: the other process may have had more than its share."""
        had = 0
        while had < jobs and (claims := self._hand.claim(BATCH)):
            self._claims.append(claims)
            had += len(claims)
        return had

    def end(self, jobs: int) -> int:
        """End all that was claimed."""
        ended = sum(self._hand.end(claims) for claims in self._claims)
        self._claims.clear()
        return ended

    def cycle(self, jobs: int) -> int:
        """Insert, claim and end jobs in turns, as they come; the ends share a commit with the next claims."""
        claims: list[Any] = []
        ended = 0
        for _ in range(jobs // BATCH):
            self._hand.insert(BATCH)
            ended += len(claims)
            claims = self._hand.turn(claims, BATCH)
        return ended + self._hand.end(claims)


class Pair:
    """The processes, from the outside."""

    def __init__(self, processes: list[asyncio.subprocess.Process]) -> None:
        self._processes = processes

    async def create(self) -> None:
        """Make what they work on anew."""
        await self._asked(self._processes[0], "create", 0)

    async def rate(self, command: str, jobs: int) -> float:
        """Let each process do a command with `jobs` jobs at the same time; return the jobs/s of all of them."""
        answers = await asyncio.gather(*(self._asked(each, command, jobs) for each in self._processes))
        began, ended, done = zip(*answers, strict=True)
        return float(sum(done) / (max(ended) - min(began)))

    async def _asked(self, process: asyncio.subprocess.Process, command: str, jobs: int) -> tuple[float, float, int]:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(f"{json.dumps([command, jobs])}\n".encode())
        line = await process.stdout.readline()
        if not line:
            raise errors.StartupError("a process of the measurement has ended: see what it wrote above")
        began, ended, done = json.loads(line)
        return began, ended, done


@contextlib.asynccontextmanager
async def pair(kind: str, url: str) -> AsyncIterator[Pair]:
    """Give two processes with hands of a kind on a store."""
    command = (sys.executable, "-m", "callboard.cli.bench.hands", kind)
    pipe = asyncio.subprocess.PIPE
    processes = [await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe) for _ in range(HANDS)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(f"{url}\n".encode())
    try:
        yield Pair(processes)
    finally:
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in processes:
            await process.wait()


def serve(kind: str) -> None:
    """Do what standard input says, until it ends."""
    with contextlib.closing(take(kind, sys.stdin.readline().strip())) as hand:
        worker = Worker(hand)
        commands: dict[str, Callable[[int], int]] = {
            name: getattr(worker, name) for name in ("create", "insert", "claim", "end", "cycle")
        }
        for line in sys.stdin:
            name, jobs = json.loads(line)
            began = time.monotonic()
            done = commands[name](jobs)
            print(json.dumps([began, time.monotonic(), done]), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
