"""The figures of `bench-servers` as a picture: needs matplotlib (`pip install callboard[bench]`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot


def draw(figures: dict[str, Any], path: Path) -> None:
    """Write a PNG: when a dead worker's jobs ran again, the slowest requests around kills, ratios of throughputs, rest."""
    mpl.use("Agg")
    made, axes = pyplot.subplots(2, 2, figsize=(11, 8))
    _workers(axes[0, 0], figures.get("workers", {}))
    _gateways(axes[0, 1], figures.get("gateways", {}))
    _throughput(axes[1, 0], figures.get("throughput", {}))
    _rest(axes[1, 1], figures.get("view", {}))
    made.tight_layout()
    made.savefig(path, dpi=110)
    pyplot.close(made)


def _workers(axes: Any, found: dict[str, Any]) -> None:
    for free, told in found.items():
        seconds = sorted(told["seconds"])
        axes.step(seconds, [(place + 1) / len(seconds) for place in range(len(seconds))], where="post", label=free)
    axes.axvline(1.0, color="grey", linestyle=":")
    axes.set(title="worker killed: its jobs run again", xlabel="seconds after the kill", ylabel="share of kills", ylim=(0, 1.02))
    axes.set_xlim(left=0)
    if found:
        axes.legend(title="free slots on the", loc="lower right")


def _gateways(axes: Any, found: dict[str, Any]) -> None:
    slowest = found.get("slowest_ms_by_second", [])
    axes.plot(slowest)
    for at in found.get("killed_at", []):
        axes.axvline(at, color="red", linewidth=0.5, alpha=0.5)
    axes.set(title="gateways killed (red), 200 requests/s", xlabel="second", ylabel="slowest request, ms")
    axes.set_ylim(bottom=0)


def _throughput(axes: Any, found: dict[str, Any]) -> None:
    if found:
        axes.boxplot([told["ratios"] for told in found.values()], tick_labels=list(found))
    axes.axhline(0.95, color="grey", linestyle=":")
    axes.set(title="no-op jobs with controllers and registries", ylabel="of the rate without them", ylim=(0, 1.5))


def _rest(axes: Any, found: dict[str, Any]) -> None:
    sizes = [int(size) for size in found]
    for who, name in (("node", "node_cpu_ms_per_second"), ("controller", "controller_cpu_ms_per_second_and_node")):
        axes.plot(sizes, [told[name] for told in found.values()], marker="o", label=who)
    axes.set(title="at rest: processor time a node", xlabel="simulated nodes", ylabel="ms a second, for each node")
    axes.set_ylim(bottom=0)
    if found:
        axes.legend()
