"""README's table of the engines and the promises that they keep: what a whole run of the shipped suites saw.

`tests/conftest.py` gives it the reports of the run, those of xdist's workers too. A run that left something out says nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import apsw
import pytest

from callboard.testing.conformance import coordination, jobs
from callboard.testing.engines import galera, mariadb, postgresql, zookeeper

README: Final = Path(__file__).parents[2] / "README.md"
RENEW: Final = "make conformance"
KEPT, UNDECLARED, BROKEN, LATER, LACKING = "kept", "not declared", "broken", "later", "lacking"
_BLOCK = re.compile(r"(<!-- generated: conformance -->\n).*?(<!-- end -->)", re.DOTALL)
_TEST = re.compile(r"tests/conformance/test_(\w+)\.py::(\w+)::test_promise\[")


class Engine(NamedTuple):
    """A row: what it is about, and the class of tests that asks it."""

    what: str
    module: str
    suite: str
    servers: tuple[str, ...] = ()


ENGINES: Final = {
    "jobs": (
        Engine("`memory:`", "job_engines", "TestMemory"),
        Engine("`sqlite:`", "job_engines", "TestSqlite", ("SQLite",)),
        Engine("`mysql:`", "job_engines_sql", "TestMariaDb", ("MariaDB",)),
        Engine("`mysql:`", "job_engines_sql", "TestGalera", ("MariaDB", "Galera")),
        Engine("`postgresql:`", "job_engines_sql", "TestPostgreSql", ("PostgreSQL",)),
        Engine("`zookeeper:`", "job_engines_zookeeper", "TestZooKeeper", ("ZooKeeper",)),
    ),
    "coordination": (
        Engine("`memory:`", "coordination_engines", "TestMemory"),
        Engine("`local:`", "coordination_engines", "TestLocal"),
        Engine("`zookeeper:`", "coordination_zookeeper", "TestZooKeeper", ("ZooKeeper",)),
        Engine("`mysql:`", "coordination_sql", "TestMariaDb", ("MariaDB",)),
        Engine("`mysql:`", "coordination_sql", "TestGalera", ("MariaDB", "Galera")),
        Engine("`postgresql:`", "coordination_sql", "TestPostgreSql", ("PostgreSQL",)),
    ),
}
ASKED: Final = {"jobs": len(jobs.ALL), "coordination": len(coordination.ALL)}

Seen = Mapping[tuple[str, str], Counter[str]]


def seen(reports: Iterable[tuple[str, pytest.TestReport]]) -> Seen:
    """Count what became of the promises, by module and class. A report comes with what it ended as."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for outcome, report in reports:
        if match := _TEST.match(report.nodeid):
            became = found.setdefault((match[1], match[2]), {})
            if became.get(report.nodeid) != BROKEN:
                became[report.nodeid] = _became(outcome, report)
    return {suite: Counter(each.values()) for suite, each in found.items()}


def _became(outcome: str, report: pytest.TestReport) -> str:
    if outcome != "skipped":
        return KEPT if outcome == "passed" else BROKEN
    reason = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else ""
    if "takes minutes" in reason:
        return LATER
    return LACKING if "needs " in reason else UNDECLARED


def whole(found: Seen) -> bool:
    """Whether every promise was asked of every engine, or is asked by `make conformance` alone."""
    return all(
        (counts := found.get((engine.module, engine.suite), Counter())).total() == ASKED[seam] and not counts[LACKING]
        for seam, engines in ENGINES.items()
        for engine in engines
    )


def block(found: Seen) -> str:
    """The table, in Markdown. What is asked later counts as kept: README's was written by a run that asked it."""
    return "\n".join(_lines(found))


def _lines(found: Seen) -> Iterator[str]:
    yield "| engine | tested on | promises kept | not declared | broken |"
    yield "|---|---|---|---|---|"
    for seam, engines in ENGINES.items():
        for engine in engines:
            counts = found[engine.module, engine.suite]
            kept = counts[KEPT] + counts[LATER]
            on = ", ".join(f"{name} {_version(name)}" for name in engine.servers)
            yield f"| {seam}: {engine.what} | {on} | {kept} | {counts[UNDECLARED]} | {counts[BROKEN]} |"


def differs(found: Seen, page: Path = README) -> bool:
    """Whether the page shows other numbers than were seen. Versions are not compared: other machines have others.

    What is asked later may be kept, or not declared: then the page's numbers need only be possible.
    """
    shown = _BLOCK.search(page.read_text())
    rows = [] if shown is None else _numbers(shown[0])[2:]
    wanted = [(seam, engine) for seam, engines in ENGINES.items() for engine in engines]
    if [row[0] for row in rows] != [f"{seam}: {engine.what}" for seam, engine in wanted]:
        return True
    return any(
        not _possible(found[engine.module, engine.suite], ASKED[seam], *map(int, row[1:]))
        for row, (seam, engine) in zip(rows, wanted, strict=True)
    )


def _possible(counts: Counter[str], asked: int, kept: int, undeclared: int, broken: int) -> bool:
    return (
        kept + undeclared + broken == asked
        and broken == counts[BROKEN]
        and 0 <= kept - counts[KEPT] <= counts[LATER]
        and 0 <= undeclared - counts[UNDECLARED] <= counts[LATER]
    )


def renew(found: Seen, page: Path = README) -> None:
    """Write the table into the page."""
    page.write_text(_BLOCK.sub(lambda match: f"{match[1]}\n{block(found)}\n\n{match[2]}", page.read_text()))


def _numbers(text: str) -> list[tuple[str, ...]]:
    """The cells of each row without the versions."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return [(first, *rest) for first, _, *rest in rows]


def _version(name: str) -> str:
    """The version that is installed here, as far as it matters."""
    installed = {
        "SQLite": apsw.sqlite_lib_version,
        "MariaDB": mariadb.version,
        "Galera": lambda: galera.PACKAGES[0].removeprefix("galera-"),
        "PostgreSQL": postgresql._version,
        "ZooKeeper": lambda: next(zookeeper._JARS[0].parent.glob("zookeeper-[0-9]*.jar")).stem.removeprefix("zookeeper-"),
    }[name]()
    return ".".join(installed.split(".")[: 1 if name == "PostgreSQL" else 2])
