"""`callboard bench`: measures, prints, writes the figures."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Final

import uvloop
from cyclopts import Parameter

from callboard import errors
from callboard.cli import exits, output
from callboard.cli.bench import backlog, book, broadcasts, calls, failover, idle, latency, machine, stream, web
from callboard.kit import telemetry

BATCHES: Final = (1, 5, 20, 100, 500, 2_000)
PARTS: Final = ("latency", "idle", "web", "calls", "failover", "broadcast", "book", "stream", "batches", "backlog")


def bench(
    parts: Annotated[tuple[str, ...], Parameter(help=f"What to measure. [all: {', '.join(PARTS)}]")] = (),
    *,
    seconds: Annotated[float, Parameter(help="How long the throughput is measured. [30]")] = 30,
    jobs: Annotated[int, Parameter(help="Jobs of the backlog. [1000000]")] = 1_000_000,
    out: Annotated[str, Parameter(help="Where bench.json and bench.png go. [bench-results]")] = "bench-results",
    json: Annotated[bool, Parameter(help="Print JSON.")] = False,
) -> int:
    """Measure this machine, in a temporary directory that is removed again.

    Prints each figure as it is found, then writes them to bench.json and, with matplotlib installed, draws bench.png.
    """
    if unknown := sorted(set(parts) - set(PARTS)):
        raise errors.InvalidInput(f"no such measurement: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if seconds < 5 or jobs < 1:
        raise errors.InvalidInput("too little to measure: --seconds is 5 at the least, --jobs 1")
    telemetry.configure("warning", "text")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    figures = _measured(parts or PARTS, seconds, jobs, _quiet if json else _print)
    _write(figures, folder)
    if json:
        output.document(figures)
    return exits.Exit.OK


Say = Callable[[str, dict[str, Any]], None]


def _measured(parts: tuple[str, ...], seconds: float, jobs: int, say: Say) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="callboard-bench-") as folder:
        figures: dict[str, Any] = {"machine": machine.describe(Path(folder))}
    say("machine", figures["machine"])
    measure: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
        "latency": latency.measure,
        "idle": lambda: idle.measure(20),
        "web": lambda: web.measure(10),
        "calls": calls.measure,
        "failover": failover.measure,
        "broadcast": broadcasts.measure,
        "book": book.measure,
        "stream": lambda: stream.measure(seconds),
        "batches": lambda: asyncio.to_thread(backlog.sizes, 60_000, BATCHES),
        "backlog": lambda: asyncio.to_thread(backlog.measure, jobs),
    }
    for name in PARTS:
        if name in parts:
            figures[name] = uvloop.run(_awaited(measure[name]()))
            say(name, figures[name])
    return figures


async def _awaited(part: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    return await part


def _print(name: str, found: dict[str, Any]) -> None:
    print(f"{name}:")
    for key, value in found.items():
        if key != "per_second":
            print(f"  {key}: {value}", flush=True)


def _quiet(name: str, found: dict[str, Any]) -> None:
    """Say nothing: all is printed at the end."""


def _write(figures: dict[str, Any], folder: Path) -> None:
    (folder / "bench.json").write_text(json.dumps(figures, indent=2) + "\n")
    try:
        from callboard.cli.bench import plot  # An optional extra: matplotlib.
    except ImportError:
        output.complain("no plot without matplotlib: pip install 'callboard[bench]'", "unsupported")
        return
    plot.draw(figures, folder / "bench.png")
