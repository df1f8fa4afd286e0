"""`callboard bench-engines`: server databases, beside their own limit with a bare driver, in interleaved rounds of one run.

`pairs` measures a round, `outage` what a kill costs; `latency` and `backlog` are those of `callboard bench`, on another store.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, Final

import uvloop
from cyclopts import Parameter

from callboard import errors
from callboard.cli import exits, output
from callboard.cli.bench import backlog, bridging, certification, figures, latency, machine, outage, pairs, private
from callboard.kit import telemetry
from callboard.testing.engines import activemq

PARTS: Final = ("rounds", "latency", "backlog", "kill")
GIVEN: Final = "given"
"""What a store is called that was given by its URL."""


def bench_engines(
    products: Annotated[tuple[str, ...], Parameter(help=f"What to measure. [all: {', '.join(private.PRODUCTS)}]")] = (),
    *,
    part: Annotated[tuple[str, ...], Parameter(help=f"Which measurements. [all: {', '.join(PARTS)}]")] = (),
    store: Annotated[str | None, Parameter(help="Measure this empty store instead of private servers.")] = None,
    rounds: Annotated[int, Parameter(help="Rounds, each of all products. [10]")] = 10,
    seconds: Annotated[float, Parameter(help="How long each round runs jobs from end to end. [5]")] = 5,
    jobs: Annotated[int, Parameter(help="Jobs of the backlog. [1000000]")] = 1_000_000,
    out: Annotated[str, Parameter(help="Where bench-engines.json goes. [bench-results]")] = "bench-results",
    json: Annotated[bool, Parameter(help="Print JSON.")] = False,
) -> int:
    """Measure Callboard on MariaDB, PostgreSQL, Galera, ZooKeeper and ActiveMQ beside what the servers themselves can do.

    Starts private servers ('make engines' installs them), and removes them. Their limit is what two processes with a bare driver
    reach, with the same rows in the same batches. Each round measures everything once; ratios are of the same round.
    """
    _check("product", products, private.PRODUCTS)
    _check("part", part, PARTS)
    if rounds < 1 or seconds < 1 or jobs < 1:
        raise errors.InvalidInput("too little to measure: --rounds, --seconds and --jobs are 1 at the least")
    telemetry.configure("error", "text")
    broker = private.broker() if store is None and private.BROKER in (products or private.PRODUCTS) else None
    measuring = Measuring(_chosen(products, store), broker, rounds=rounds, seconds=seconds, jobs=jobs)
    try:
        measuring.run(part or PARTS)
    finally:  # What took minutes to find is not lost with what failed after it.
        _write(measuring.told(), Path(out))
    if json:
        output.document(measuring.told())
    else:
        output.table(figures.COLUMNS, [row.cells() for row in measuring.rows])
    return exits.Exit.OK


def _chosen(products: tuple[str, ...], store: str | None) -> dict[str, private.Served]:
    if store is not None:
        return {GIVEN: private.Given(store)}
    return {name: private.open(name) for name in products or private.PRODUCTS if name != private.BROKER}


def _check(what: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
    if unknown := sorted(set(given) - set(known)):
        raise errors.InvalidInput(f"no such {what}: {', '.join(unknown)}; there are {', '.join(known)}")


class Measuring:
    """One run over some servers. What was found is in `rows`."""

    def __init__(
        self, served: dict[str, private.Served], broker: activemq.Broker | None, *, rounds: int, seconds: float, jobs: int
    ) -> None:
        self.rows: list[figures.Row] = []
        self._served = served
        self._broker = broker
        self._rounds = rounds
        self._seconds = seconds
        self._jobs = jobs
        self._machine: dict[str, Any] = {}

    def told(self) -> dict[str, Any]:
        """Return the figures found so far by product, and the machine's."""
        return {
            "machine": self._machine,
            **{name: [row.told() for row in self.rows if row.product == name] for name in self._names()},
        }

    def _names(self) -> list[str]:
        return [*self._served, *([private.BROKER] if self._broker else [])]

    def run(self, parts: tuple[str, ...]) -> None:
        """Start the servers, measure, take them away."""
        with tempfile.TemporaryDirectory(prefix="callboard-bench-") as folder:
            self._machine = machine.describe(Path(folder))
        measures: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "rounds": self._measure_rounds,
            "latency": self._measure_latency,
            "backlog": self._measure_backlog,
            "kill": self._measure_kills,
        }
        with contextlib.ExitStack() as stack:
            for served in self._served.values():
                stack.enter_context(served)
            if self._broker:
                stack.enter_context(self._broker)
            for part in PARTS:
                if part in parts:
                    uvloop.run(measures[part]())

    async def _measure_rounds(self) -> None:
        found: dict[str, list[pairs.Figures]] = {name: [] for name in self._served}
        for number in range(self._rounds):
            for name, served in self._served.items():
                before = await asyncio.to_thread(_certified, served)
                jobs = private.ROUND_JOBS.get(name, pairs.JOBS)
                round = await pairs.measure(served, number, self._seconds, jobs)
                found[name].append(round | certification.share(before, await asyncio.to_thread(_certified, served)))
                output.note(f"round {number + 1} of {self._rounds}, {name}: {_shown(found[name][-1])}")
        for name, rounds in found.items():
            beside = found.get("mariadb") if name == "galera" else None
            self.rows += figures.of_rounds(name, rounds, beside)
        if self._broker:
            await self._measure_messages(self._broker)

    async def _measure_messages(self, broker: activemq.Broker) -> None:
        found = []
        for number in range(self._rounds):
            found.append(await bridging.measure(broker, number))
            output.note(f"round {number + 1} of {self._rounds}, {private.BROKER}: {_shown(found[-1])}")
        self.rows += figures.of_messages(private.BROKER, found)

    async def _measure_latency(self) -> None:
        if self._broker:
            times = await bridging.latency(self._broker)
            self.rows.append(figures.Row(private.BROKER, "message to start, p50", "ms", [times["p50_ms"]], goal="p50 ≤ 10"))
            self.rows.append(figures.Row(private.BROKER, "message to start, p99", "ms", [times["p99_ms"]]))
            output.note(f"latency, {private.BROKER}: {times}")
        for name, served in self._served.items():
            found = await latency.measure(store=await asyncio.to_thread(served.database))
            for what, times in found.items():
                goal = "p50 ≤ 10" if what == "submit_to_start" else ""
                words = what.replace("_", " ")
                self.rows.append(figures.Row(name, f"{words}, p50", "ms", [times["p50_ms"]], goal=goal))
                self.rows.append(figures.Row(name, f"{words}, p99", "ms", [times["p99_ms"]]))
            output.note(f"latency, {name}: {found}")

    async def _measure_backlog(self) -> None:
        for name, served in self._served.items():
            url = await asyncio.to_thread(served.database)
            jobs = min(self._jobs, private.MOST_JOBS.get(name, self._jobs))
            found = await asyncio.to_thread(backlog.measure, jobs, url)
            empty = float(found["claims_per_second_empty"])
            self.rows.append(figures.Row(name, "claims, empty", "jobs/s", [empty]))
            for kind in ("full", "unknown_in_front"):
                rate = float(found[f"claims_per_second_{kind}"])
                what = f"claims, {jobs} {'queued' if kind == 'full' else 'of unknown kinds in front'}"
                self.rows.append(figures.Row(name, what, "jobs/s", [rate], "empty", [rate / empty], "≥ 0.80"))
            output.note(f"backlog, {name}: {found}")

    async def _measure_kills(self) -> None:
        for name, served in self._served.items():
            if name == GIVEN:
                continue
            found = await outage.measure(served)
            for what, goal in (("recovery", ""), ("first job after it", "≤ 1 s")):
                self.rows.append(figures.Row(name, f"kill: {what}", "s", found[what], goal=goal))
            output.note(f"kill, {name}: {found}")


def _certified(served: private.Served) -> certification.Counts | None:
    """Return what a cluster has counted so far; None for a single server."""
    return certification.counts(served.url()) if isinstance(served, private.Cluster) else None


def _shown(round: pairs.Figures) -> str:
    return ", ".join(f"{name} {figures.text(value)}" for name, value in round.items())


def _write(found: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench-engines.json").write_text(json.dumps(found, indent=2) + "\n")
