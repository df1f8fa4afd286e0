"""`callboard bench-servers`: what a cluster of servers reaches while its parts are killed, and what its offices cost.

Each part has deployments of its own: `servers_kills` (workers), `servers_gateways`, `servers_duties` (controllers and
registries), `servers_view` (a crowd of simulated nodes). What became of a whole server is for the fault tests, which print it
beside what others needed.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Final

import uvloop
from cyclopts import Parameter

from callboard import errors
from callboard.cli import exits, output
from callboard.cli.bench import machine, servers_duties, servers_gateways, servers_ground, servers_kills, servers_view
from callboard.kit import telemetry

PARTS: Final = ("workers", "gateways", "throughput", "view")


def bench_servers(
    parts: Annotated[tuple[str, ...], Parameter(help=f"What to measure. [all: {', '.join(PARTS)}]")] = (),
    *,
    kills: Annotated[int, Parameter(help="Workers, and gateways, killed in each part. [50]")] = 50,
    pairs: Annotated[int, Parameter(help="Pairs of throughputs, of each store. [8]")] = 8,
    seconds: Annotated[float, Parameter(help="How long each throughput is measured. [8]")] = 8,
    out: Annotated[str, Parameter(help="Where bench-servers.json and its plot go. [bench-results]")] = "bench-results",
    json: Annotated[bool, Parameter(help="Print JSON.")] = False,
) -> int:
    """Measure two servers of a cluster on this machine, each on an address of its own, on private MariaDB and ZooKeeper.

    Kills workers and times when their jobs run again; kills gateways under load, and counts what clients met; measures what
    registries and controllers cost the jobs, and the cluster view costs up to 200 nodes. 'make engines' installs what it needs.
    """
    if unknown := sorted(set(parts) - set(PARTS)):
        raise errors.InvalidInput(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if min(kills, pairs, seconds) < 1:
        raise errors.InvalidInput("too little to measure: --kills, --pairs and --seconds are 1 at the least")
    telemetry.configure("error", "text")
    with tempfile.TemporaryDirectory(prefix="callboard-bench-") as folder:
        found: dict[str, Any] = {"machine": machine.describe(Path(folder))}
    try:
        _measure(parts or PARTS, kills, pairs, seconds, found)
    finally:  # What took minutes to find is not lost with what failed after it.
        _write(found, Path(out))
    if json:
        output.document(found)
    return exits.Exit.OK


def _measure(parts: tuple[str, ...], kills: int, pairs: int, seconds: float, found: dict[str, Any]) -> None:
    with servers_ground.opened() as ground:
        measures: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
            "workers": lambda: servers_kills.measure(ground, kills),
            "gateways": lambda: servers_gateways.measure(ground, kills),
            "throughput": lambda: servers_duties.measure(ground, pairs, seconds),
            "view": lambda: servers_view.measure(ground.ensemble),
        }
        for part in PARTS:
            if part in parts:
                found[part] = uvloop.run(_awaited(measures[part]()))
                output.note(f"{part}: {_shown(found[part])}")


async def _awaited(part: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    return await part


def _shown(found: dict[str, Any]) -> str:
    """Return figures in a line, without the long lists."""
    inner = ((name, f"({_shown(each)})" if isinstance(each, dict) else each) for name, each in found.items())
    return ", ".join(f"{name} {each}" for name, each in inner if not isinstance(each, list))


def _write(found: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench-servers.json").write_text(json.dumps(found, indent=2) + "\n")
    try:
        from callboard.cli.bench import servers_plot  # An optional extra: matplotlib.
    except ImportError:
        output.complain("no plot without matplotlib: pip install 'callboard[bench]'", "unsupported")
        return
    servers_plot.draw(found, folder / "bench-servers.png")
