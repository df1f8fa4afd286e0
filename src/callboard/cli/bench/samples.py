"""Small arithmetic over measurements, and what /proc says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value below which `percent` of the sorted values lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(percent / 100 * (len(ordered) - 1)))]


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    """Return p50, p99 and the greatest of some durations, in milliseconds."""
    named = {"p50_ms": percentile(seconds, 50), "p99_ms": percentile(seconds, 99), "max_ms": max(seconds)}
    return {name: round(value * 1e3, 2) for name, value in named.items()}


def status(pid: int) -> dict[str, int]:
    """Return the numbers of /proc/PID/status (sizes in KiB)."""
    pairs = (line.partition(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: int(text.split()[0]) for name, _, text in pairs if text.split() and text.split()[0].isdigit()}
