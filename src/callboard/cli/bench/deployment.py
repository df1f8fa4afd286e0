"""A deployment to measure: started with the project's own command, in a directory of its own, stopped again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from callboard import errors
from callboard.client import Client
from callboard.kit import ports

START_SECONDS = 30


class Deployment(msgspec.Struct, frozen=True):
    """Where it lives: its data directory, its agent's pid, its gateways' URLs with an admin key, its store's URL."""

    data: Path
    pid: int
    urls: list[str]
    key: str
    store: str

    async def nodes(self) -> list[dict[str, Any]]:
        """Return the entries of its nodes."""
        async with Client(self.urls, key=self.key) as client:
            return await client.nodes()


@contextlib.asynccontextmanager
async def deploy(
    *,
    workers: int,
    slots: int,
    gateways: int = 1,
    services: int = 0,
    given: Mapping[str, str] | None = None,
    store: str | None = None,
) -> AsyncIterator[Deployment]:
    """Start `callboard up` with the bench's app and give it when all its nodes are ready; `given` are settings by variable.

    `store` is the URL of another store than a new SQLite file.
    """
    data = Path(tempfile.mkdtemp(prefix="callboard-bench-"))
    store = store or f"sqlite://{data}/callboard.db"
    surroundings = {**os.environ, **(given or {}), "CALLBOARD_STORE_URL": store}
    command = [sys.executable, "-m", "callboard.cli", "up", "callboard.cli.bench.apps:app", "--data", str(data)]
    command += ["--workers", str(workers), "--slots", str(slots), "--gateways", str(gateways), "--port", str(ports.free()[0])]
    command += ["--services", str(services)]
    with (data / "up.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, env=surroundings)
    try:
        yield await _ready(process, data, store, workers + gateways + services)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()
        shutil.rmtree(data, ignore_errors=True)


async def _ready(process: asyncio.subprocess.Process, data: Path, store: str, nodes: int) -> Deployment:
    async with asyncio.timeout(START_SECONDS):
        while True:
            if process.returncode is not None:
                raise errors.StartupError(f"callboard up ended: {(data / 'up.log').read_text()[-500:]}")
            with contextlib.suppress(OSError, errors.CallboardError, ValueError):
                local = json.loads((data / "local.json").read_text())
                made = Deployment(data, process.pid, local["urls"], local["key"], store)
                if len(await made.nodes()) >= nodes:
                    return made
            await asyncio.sleep(0.05)
