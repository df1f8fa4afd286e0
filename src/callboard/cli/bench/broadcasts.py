"""A broadcast to 256 recipients in four other processes: one request to each, an outcome of each, gathered.

Every recipient is a node of its own on the wire, with a connection of its own: 64 of them share a process here.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import uvloop

from callboard.cli.bench import joined, samples
from callboard.kit import clock, telemetry, uuid7
from callboard.node import layout
from callboard.rpc import broadcast, doors, peers, serving, sockets

MODULE: Final = "callboard.cli.bench.broadcasts"
PROCESSES: Final = 4
NODES: Final = 64
ROUNDS: Final = 100
LABEL: Final = "crowd"


class Crowd:
    """What each recipient serves."""

    label = LABEL

    def __init__(self) -> None:
        self.methods = {"present": serving.Method("present", self._present)}

    def admit(self, domain: str, epoch: int) -> int:
        return 0

    async def _present(self, call: serving.Call, args: bytes) -> bytes:
        return args


async def measure() -> dict[str, Any]:
    """Return p50, p99 and the greatest time of a gathered broadcast, in milliseconds."""
    with tempfile.TemporaryDirectory(prefix="callboard-bench-") as folder:
        data = Path(folder)
        async with _crowds(data), joined.wire(data) as wire:
            found = doors.Doors(layout.Layout(data).nodes).read()
            recipients = [broadcast.Recipient(f"{LABEL}/{door.incarnation}", door.address, LABEL) for door in found]
            seconds = []
            for number in range(ROUNDS + 3):
                began = time.perf_counter()
                outcomes = await broadcast.gather(
                    wire, recipients, "present", b"", mode="all", timeout=10.0, key=f"round {number}"
                )
                seconds.append(time.perf_counter() - began)
                assert len(outcomes) == len(recipients) and all(each.status == "ok" for each in outcomes)
    return {"recipients": len(recipients), "processes": PROCESSES, **samples.milliseconds(seconds[3:])}


@contextlib.asynccontextmanager
async def _crowds(data: Path) -> AsyncIterator[None]:
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", MODULE, str(data), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(PROCESSES)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            await process.stdout.readline()
        yield
    finally:
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()


async def stand(data: Path) -> None:
    """Be `NODES` recipients until standard input ends."""
    time = clock.SystemClock()
    book = doors.Doors(layout.Layout(data).nodes)
    crowd = []
    for _ in range(NODES):
        incarnation, secret = uuid7.make(time.now()).hex(), secrets.token_bytes(32)
        table = serving.Table(incarnation)
        table.add(Crowd())
        identity = peers.Identity("callboard", "main", incarnation)
        one = peers.Peers(identity, sockets.Sockets(), table, clock=time, secret=secret, secret_of=book.secret_of)
        await one.start()
        here = one.address
        book.write(doors.Door(incarnation, here.host, here.port, secret, (LABEL,)))
        crowd.append(one)
    print("standing", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await asyncio.gather(*(one.stop() for one in crowd))


if __name__ == "__main__":
    telemetry.configure("warning", "text")
    uvloop.run(stand(Path(sys.argv[1])))
