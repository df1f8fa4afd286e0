"""Runs the measurements one after another and writes what they found."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from callboard import errors
from callboard.cli.bench import backlog, idle, latency, machine, stream, web

BATCHES = (1, 5, 20, 100, 500, 2_000)
PARTS = ("latency", "idle", "web", "stream", "batches", "backlog")


def run(out: Path, *, seconds: float = 30, jobs: int = 1_000_000, only: Sequence[str] = ()) -> dict[str, Any]:
    """Measure, print each figure as it comes, write `bench.json` and `bench.png` into `out`, and return the figures.

    `seconds` is how long the throughput runs, `jobs` the backlog, `only` some of PARTS. Raises InvalidInput, StartupError.
    """
    unknown = set(only) - set(PARTS)
    if unknown:
        raise errors.InvalidInput(f"no such measurement: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="callboard-bench-") as folder:
        figures: dict[str, Any] = {"machine": machine.describe(Path(folder))}
    _print("machine", figures["machine"])
    for name, part in _parts(seconds, jobs).items():
        if not only or name in only:
            figures[name] = asyncio.run(_awaited(part))
            _print(name, figures[name])
    (out / "bench.json").write_text(json.dumps(figures, indent=2) + "\n")
    _draw(figures, out / "bench.png")
    return figures


def _parts(seconds: float, jobs: int) -> dict[str, Callable[[], Awaitable[Any]]]:
    return {
        "latency": latency.measure,
        "idle": lambda: idle.measure(20),
        "web": lambda: web.measure(10),
        "stream": lambda: stream.measure(seconds),
        "batches": lambda: asyncio.to_thread(backlog.sizes, 60_000, BATCHES),
        "backlog": lambda: asyncio.to_thread(backlog.measure, jobs),
    }


async def _awaited(part: Callable[[], Awaitable[Any]]) -> Any:
    return await part()


def _print(name: str, found: dict[str, Any]) -> None:
    print(f"{name}:")
    for key, value in found.items():
        if key != "per_second":
            print(f"  {key}: {value}", flush=True)


def _draw(figures: dict[str, Any], path: Path) -> None:
    try:
        from callboard.cli.bench import plot  # An optional extra: matplotlib.
    except ImportError:
        print("no plot: matplotlib is missing; install callboard[bench]")
        return
    plot.draw(figures, path)
