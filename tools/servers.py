"""The table of servers in docs/reference/performance.md: goals, and the figures of docs/reference/servers.json.

`make bench-servers` writes them; what was not measured is said to be so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

FIGURES: Final = Path(__file__).resolve().parent.parent / "docs" / "reference" / "servers.json"
PLOT: Final = FIGURES.parent.parent / "images" / "bench-servers.png"
ABSENT: Final = "not measured yet"
FLAT: Final = 1.5
"""How many times what a node costs among the fewest it may cost among the most."""


class Line(NamedTuple):
    """A line of the table: what it tells of, its goal, where its figures are, how they are told, and whether they are reached."""

    what: str
    goal: str
    path: tuple[str, ...]
    tell: Callable[[dict[str, Any]], str]
    reached: Callable[[dict[str, Any]], bool] = lambda _: True


def _kill(found: dict[str, Any]) -> str:
    return f"p50 {_ms(found['p50_ms'])}, p99 {_ms(found['p99_ms'])}, most {_ms(found['max_ms'])} of {found['kills']} kills"


def _refused(found: dict[str, Any]) -> str:
    failed = ", ".join(f"{count} {code}" for code, count in found["failed"].items()) or "none"
    lost = found["jobs_lost"]
    return f"failed: {failed} of {found['requests']:,}; jobs lost: {lost or 'none'}; {found['retries']:,} tried again"


def _slow(found: dict[str, Any]) -> str:
    often = f"{found['kills']} kills, one every {found['seconds_between']:g} s, of {found['gateways']} gateways"
    return f"p50 {_ms(found['p50_ms'])}, p99 {_ms(found['p99_ms'])}, most {_ms(found['max_ms'])}; {often}"


def _ratio(found: dict[str, Any]) -> str:
    ratio, rate = found["ratio"], found["with"]["median"]
    between = f"{ratio['least']:.2f} to {ratio['greatest']:.2f} in {len(found['ratios'])} pairs"
    return f"{ratio['median']:.2f} of {found['without']['median']:,.0f} jobs/s ({between}), at {rate:,.0f} jobs/s"


def _share(found: dict[str, Any]) -> str:
    share = found["core_percent"]
    return f"{share['median']:g} % of a core in all ({share['least']:g} to {share['greatest']:g})"


def _last(found: dict[str, Any]) -> str:
    last, write = found["last_node"], found["write"]
    times = f"p50 {_ms(last['p50_ms'])}, p99 {_ms(last['p99_ms'])}, most {_ms(last['max_ms'])} of {found['changes']} changes"
    return f"{times}; of it, coordination's own write p50 {_ms(write['p50_ms'])}, p99 {_ms(write['p99_ms'])}"


def _each(name: str, unit: str) -> Callable[[dict[str, Any]], str]:
    """Return what tells a figure of every number of nodes: that of a node and, for each node, of who keeps the view."""
    return lambda found: (
        "; ".join(
            f"{size} nodes: {told[f'node_{name}']:g} and {told[f'controller_{name}_and_node']:g}" for size, told in found.items()
        )
        + f" {unit}"
    )


def _flat(name: str) -> Callable[[dict[str, Any]], bool]:
    def both(told: dict[str, Any]) -> float:
        return float(told[f"node_{name}"] + told[f"controller_{name}_and_node"])

    return lambda found: both(found[max(found, key=int)]) <= FLAT * both(found[min(found, key=int)])


def _ms(milliseconds: float) -> str:
    return f"{milliseconds / 1e3:.2f} s" if milliseconds >= 100 else f"{milliseconds:.0f} ms"


def _soon(found: dict[str, Any]) -> bool:
    return bool(found["p99_ms"] <= 1e3)


def _near(found: dict[str, Any]) -> bool:
    return bool(found["ratio"]["median"] >= 0.95)


KILLED: Final = "worker killed until its jobs run again, "
RATE: Final = "no-op jobs with a registry and controllers at work, of the rate without: "
REST: Final = "at rest, a node that follows the view and, for each node, who keeps it: "
LINES: Final = (
    Line(f"{KILLED}free slots on its own server", "p99 ≤ 1 s", ("workers", "same server"), _kill, _soon),
    Line(f"{KILLED}free slots on the other server alone", "p99 ≤ 1 s", ("workers", "other server"), _kill, _soon),
    Line(
        "200 requests/s with the client while gateways are killed",
        "none fails",
        ("gateways",),
        _refused,
        lambda found: not found["failed"] and not found["jobs_lost"],
    ),
    Line("the same: how long a request takes", "p99 ≤ 2 s", ("gateways",), _slow, lambda found: found["p99_ms"] <= 2e3),
    Line(f"{RATE}SQLite", "at least 0.95", ("throughput", "sqlite"), _ratio, _near),
    Line(f"{RATE}MariaDB", "at least 0.95", ("throughput", "mariadb"), _ratio, _near),
    Line("processor time of that registry and those controllers meanwhile", "", ("throughput", "mariadb"), _share),
    Line(
        "a change of the cluster view until the last of 50 simulated nodes knows",
        "p99 ≤ 100 ms",
        ("view", "50"),
        _last,
        lambda found: found["last_node"]["p99_ms"] <= 100,
    ),
    Line(
        f"{REST}processor time a second",
        f"flat: at most {FLAT:g} times as much",
        ("view",),
        _each("cpu_ms_per_second", "ms"),
        _flat("cpu_ms_per_second"),
    ),
    Line(
        f"{REST}bytes sent a second",
        f"flat: at most {FLAT:g} times as much",
        ("view",),
        _each("bytes_per_second", "bytes"),
        _flat("bytes_per_second"),
    ),
)


def lines() -> Iterator[str]:
    """Return the table, on what it was measured, and the plot, once there is one."""
    figures: dict[str, Any] = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    yield "| what | goal | reached |"
    yield "|---|---|---|"
    for line in LINES:
        yield f"| {line.what} | {line.goal} | {_told(figures, line)} |"
    if machine := figures.get("machine"):
        yield ""
        yield (
            f"On {machine['cores']} cores ({machine['processor']}), {machine['memory_gib']:g} GiB, Linux {machine['kernel']}, "
            f"Python {machine['python']}, an fsync of {machine['fsync_p50_ms']:g} ms."
        )
    if PLOT.exists():
        yield ""
        said = "Dead workers' jobs run again, slowest requests around kills of gateways, ratios of throughputs, nodes at rest"
        yield f"![{said}](../images/{PLOT.name})"


def _told(figures: dict[str, Any], line: Line) -> str:
    found: Any = figures
    for name in line.path:
        found = found.get(name, {})
    if not found:
        return ABSENT
    return line.tell(found) + ("" if line.reached(found) else ": **not reached**")
