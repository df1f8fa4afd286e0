"""A store and rows of its users in one database: connections to it, workers in this process and in others."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from callboard import Callboard
from callboard.app import connection as connections
from callboard.jobs import model
from callboard.jobs import queue as queues
from callboard.kit import grammar, uuid7
from callboard.roles import worker
from tests.conftest import Eventually
from tests.engines import transacting

ROOT = Path(__file__).parents[2]


class QuickWorker(worker.Worker):
    poll_seconds = 0.05
    renew_seconds = 0.05


class Shop:
    """A database that is a store and holds rows of ours; connections to it, and workers."""

    def __init__(self, url: str, own: connections.Connection, eventually: Eventually) -> None:
        self.url = url
        self.sync = transacting.engine(url)
        self.asynchronous = transacting.async_engine(url)
        self.eventually = eventually
        self.queue: queues.Queue = own.way.queue
        self.workers: list[worker.Worker] = []
        self.nursery: subprocess.Popen[str] | None = None
        with self.sync.begin() as on:
            on.execute(sa.text("CREATE TABLE effects(job CHAR(36) NOT NULL, fence INT NOT NULL)"))

    async def work(self, app: Callboard = transacting.app) -> worker.Worker:
        """Start a worker in this process."""
        made = QuickWorker(self.queue, app, node=uuid7.make(self.queue.clock.now()), slots=4, abandon_seconds=0.05)
        await made.start()
        self.workers.append(made)
        return made

    async def start_process(self) -> tuple[int, bytes]:
        """Start a worker in a process of its own; return its pid, and its node."""
        if self.nursery is None:
            command = [sys.executable, "-m", "tests.engines.transacting", self.url]
            pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            self.nursery = await asyncio.to_thread(subprocess.Popen, command, cwd=ROOT, **pipes)
        node = uuid7.make(self.queue.clock.now())
        self.nursery.stdin.write(f"{node.hex()}\n")
        self.nursery.stdin.flush()
        return int(await self.said()), node

    async def said(self) -> str:
        """What a process says next."""
        return (await asyncio.to_thread(self.nursery.stdout.readline)).strip()

    async def bury(self, pid: int, node: bytes) -> None:
        """Kill a worker, if it lives, as the agent does: then its claims are expired."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        await self.ended(pid)
        await self.queue.expire([node])

    async def ended(self, pid: int) -> None:
        await self.eventually(lambda: not Path(f"/proc/{pid}").exists())

    async def paid(self, jobs: int) -> None:
        await self.eventually(lambda: len(self.effects()) >= jobs, 30)

    async def settled(self, made: worker.Worker, times: int) -> None:
        await self.eventually(lambda: made.stats()["settled"] == times)

    def effects(self, job: str | None = None) -> list[tuple[str, int]]:
        with self.sync.connect() as on:
            rows = on.execute(sa.text("SELECT job, fence FROM effects ORDER BY job, fence"))
            return [(row[0], row[1]) for row in rows if job in (None, row[0])]

    async def job(self, submitted: connections.Submitted) -> model.Job | None:
        return await self.queue.get(grammar.DEFAULT_DOMAIN, uuid7.parse(submitted.id))

    async def errors(self, submitted: connections.Submitted) -> list[str]:
        return [each.type for each in await self.queue.attempt_errors(grammar.DEFAULT_DOMAIN, uuid7.parse(submitted.id))]

    async def counts(self) -> dict[str, int]:
        return {each.state.word: each.jobs for each in await self.queue.counts(grammar.DEFAULT_DOMAIN) if each.jobs}

    async def close(self) -> None:
        for each in self.workers:
            await each.stop()
        if self.nursery is not None:
            self.nursery.kill()
            self.nursery.communicate()
        await self.asynchronous.dispose()
