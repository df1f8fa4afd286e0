"""How long a change takes until every node of a site knows it, and what the cluster view costs a node while nothing changes.

Simulated nodes (`servers_crowd`) with real wires, in a few processes, on a private ZooKeeper; the site controller has a process
of its own, and one node beside it. A change is an entry that is written in coordination; it has arrived when the last node knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import msgspec

from callboard.cli.bench import samples, servers_crowd
from callboard.coordination import engine, engines
from callboard.kit import telemetry
from callboard.names import model
from callboard.testing.engines import zookeeper

SIZES: Final = (10, 50, 200)
PROCESSES: Final = 4
CHANGES: Final = 100
APART_SECONDS: Final = 0.002
"""Between two changes, for each node: simulated ones share the processors of one machine, which is not to be full."""
REST_SECONDS: Final = 20.0
START_SECONDS: Final = 120.0
PATH: Final = f"{model.SERVERS}/{servers_crowd.PROBE}"
LINE_BYTES: Final = 64 << 20
_said = msgspec.json.Decoder(servers_crowd.Said).decode


async def measure(ensemble: zookeeper.Ensemble, sizes: Sequence[int] = SIZES, changes: int = CHANGES) -> dict[str, Any]:
    """Return, for each number of nodes: how long changes took, and what a node and the controller cost at rest."""
    found = {}
    for size in sizes:
        url = ensemble.url(f"/view-{size}")
        async with _crowds(url, size) as crowds:
            await _settled(crowds, size + 1)
            rest = await _rest(crowds, size)
            found[str(size)] = {**await _changed(url, crowds, changes, size * APART_SECONDS), **rest}
    return found


@contextlib.asynccontextmanager
async def _crowds(url: str, size: int) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """Start the controller's process, then those of `size` nodes; end them all."""
    made: list[asyncio.subprocess.Process] = []
    shares = [size // PROCESSES + (number < size % PROCESSES) for number in range(PROCESSES)]
    try:
        for nodes, leads in [(1, True), *((share, False) for share in shares if share)]:
            task = msgspec.json.encode(servers_crowd.Task(url, nodes, leads)).decode()
            made.append(
                await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "callboard.cli.bench.servers_crowd",
                    task,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    limit=LINE_BYTES,
                )
            )
        yield made
    finally:
        for each in made:
            with contextlib.suppress(ProcessLookupError):
                each.kill()
            await each.wait()


async def _ask(crowd: asyncio.subprocess.Process) -> servers_crowd.Said:
    assert crowd.stdin is not None and crowd.stdout is not None
    crowd.stdin.write(b"\n")
    return _said(await crowd.stdout.readline())


async def _all(crowds: Sequence[asyncio.subprocess.Process]) -> list[servers_crowd.Said]:
    return await asyncio.gather(*map(_ask, crowds))


async def _settled(crowds: Sequence[asyncio.subprocess.Process], nodes: int) -> None:
    """Wait until every node knows all of them."""
    async with asyncio.timeout(START_SECONDS):
        while [known for said in await _all(crowds) for known in said.knows] != [nodes] * nodes:  # noqa: ASYNC110  # Other processes.
            await asyncio.sleep(0.2)


async def _rest(crowds: Sequence[asyncio.subprocess.Process], size: int) -> dict[str, Any]:
    """Return what nothing costs: milliseconds of a core each second, and bytes each second."""
    before, began = await _all(crowds), time.monotonic()
    await asyncio.sleep(REST_SECONDS)
    after, took = await _all(crowds), time.monotonic() - began
    cpu = [(now.cpu_seconds - then.cpu_seconds) / took * 1e3 for then, now in zip(before, after, strict=True)]
    sent = [(now.sent_bytes - then.sent_bytes) / took for then, now in zip(before, after, strict=True)]
    return {
        "node_cpu_ms_per_second": round(sum(cpu[1:]) / size, 3),
        "node_bytes_per_second": round(sum(sent[1:]) / size, 1),
        "controller_cpu_ms_per_second_and_node": round(cpu[0] / size, 3),
        "controller_bytes_per_second_and_node": round(sent[0] / size, 1),
    }


async def _changed(url: str, crowds: Sequence[asyncio.subprocess.Process], changes: int, apart_seconds: float) -> dict[str, Any]:
    """Return how long changes took until the last node knew them, the part of it that was writing them and the rest; and what
    they cost."""
    opened = engines.open(url)
    session = await opened.session("bench")
    began: list[float] = []
    written: list[float] = []
    number = 0
    before = await _all(crowds)
    try:
        for count in range(changes):
            facts = model.ServerFacts(agent=servers_crowd.PROBE, site=servers_crowd.SITE, software=str(count))
            body = msgspec.json.encode(facts)
            operation = engine.Replace(PATH, body, number) if count else engine.Create(PATH, body)
            began.append(time.monotonic())
            (number,) = await session.apply([operation])
            written.append(time.monotonic() - began[-1])
            await asyncio.sleep(apart_seconds)
        await asyncio.sleep(1.0)
        after = await _all(crowds)
    finally:
        await session.close()
        await opened.close()
    nodes = [node for said in after for node in said.seen]
    last = [max(_known(node, count) for node in nodes) - at for count, at in enumerate(began)]
    told = [max(whole - write, 0.0) for whole, write in zip(last, written, strict=True)]
    shown = {"write": written, "after_write": told, "last_node": last}
    cpu = [(now.cpu_seconds - then.cpu_seconds) / changes * 1e3 for then, now in zip(before, after, strict=True)]
    return {
        "changes": changes,
        **{name: samples.milliseconds(seconds) for name, seconds in shown.items()},
        "controller_cpu_ms_a_change_and_node": round(cpu[0] / len(nodes), 4),
        "node_cpu_ms_a_change": round(sum(cpu[1:]) / (len(nodes) - 1), 4),
    }


def _known(node: Sequence[tuple[int, float]], count: int) -> float:
    """Return when a node knew of a change: of that, or of a later one that it was told together with."""
    return next(at for told, at in node if told >= count)


def main() -> None:
    """Measure and print."""
    telemetry.configure("error", "text")
    with zookeeper.Ensemble(1, sync=True) as ensemble:
        print(msgspec.json.format(msgspec.json.encode(asyncio.run(measure(ensemble)))).decode())


if __name__ == "__main__":
    main()
