"""The figures as a picture: needs matplotlib (`pip install callboard[bench]`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot


def draw(figures: dict[str, Any], path: Path) -> None:
    """Write a PNG: submissions/s by batch size, claims/s by backlog, finished jobs by second."""
    mpl.use("Agg")
    made, axes = pyplot.subplots(1, 3, figsize=(13, 4))
    _batches(axes[0], figures.get("batches", {}))
    _backlog(axes[1], figures.get("backlog", {}))
    _stream(axes[2], figures.get("stream", {}))
    made.tight_layout()
    made.savefig(path, dpi=110)
    pyplot.close(made)


def _batches(axes: Any, rates: dict[str, int]) -> None:
    axes.plot([int(batch) for batch in rates], list(rates.values()), marker="o")
    axes.set(title="durable submissions by batch size", xscale="log", xlabel="jobs a commit", ylabel="jobs/s")
    axes.set_ylim(bottom=0)


def _backlog(axes: Any, found: dict[str, Any]) -> None:
    names = {"empty": "few", "full": "queued", "unknown_in_front": "+ unknown\nin front"}
    heights = [found.get(f"claims_per_second_{name}", 0) for name in names]
    axes.bar(list(names.values()), heights)
    axes.set(title=f"claim + end by backlog ({found.get('jobs', 0):,} jobs)", ylabel="jobs/s")


def _stream(axes: Any, found: dict[str, Any]) -> None:
    axes.plot(found.get("per_second", []))
    axes.set(title="no-op jobs, submitted to result stored", xlabel="second", ylabel="jobs/s")
    axes.set_ylim(bottom=0)
