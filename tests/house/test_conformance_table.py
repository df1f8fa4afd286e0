"""README's table of the promises that engines keep says what a whole run saw, and nothing else does."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conformance import table

CLUSTER = ("coordination_sql", "TestGalera")


def reports(outcome="passed", reason="", of=None):
    """A report of each promise of each engine, or of one."""
    for seam, engines in table.ENGINES.items():
        for engine in engines:
            if of is None or of == (engine.module, engine.suite):
                for number in range(table.ASKED[seam]):
                    yield outcome, report(engine.module, engine.suite, number, reason)


def report(module, suite, number, reason=""):
    nodeid = f"tests/conformance/test_{module}.py::{suite}::test_promise[promise_{number}]"
    return SimpleNamespace(nodeid=nodeid, longrepr=("", 0, f"Skipped: {reason}") if reason else None)


def test_every_engine_has_a_row():
    rows = [line.split(" | ") for line in table.block(table.seen(reports())).splitlines()[2:]]
    assert all(int(row[2]) == table.ASKED["jobs" if "jobs" in row[0] else "coordination"] for row in rows)
    assert len(rows) == sum(map(len, table.ENGINES.values()))


def test_a_whole_run_is_one_that_asked_everything():
    everything = list(reports())
    assert table.whole(table.seen(everything))
    assert not table.whole(table.seen(everything[1:]))
    assert not table.whole(table.seen([*everything, *reports("skipped", "needs Galera (there is none): make engines", CLUSTER)]))
    assert table.whole(table.seen([*everything, *reports("skipped", "takes minutes: make faults, make soak", CLUSTER)]))


def test_a_test_that_fails_at_its_end_is_broken():
    module, suite = CLUSTER
    counts = table.seen([("passed", report(module, suite, 1)), ("error", report(module, suite, 1))])[CLUSTER]
    assert counts == {table.BROKEN: 1}


@pytest.mark.parametrize("outcome", ["failed", "skipped"])
def test_a_difference_is_noticed_and_written(tmp_path: Path, outcome: str):
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- generated: conformance -->\n<!-- end -->\nafter\n")
    usual = table.seen(reports())
    assert table.differs(usual, page)
    table.renew(usual, page)
    assert not table.differs(usual, page)
    assert page.read_text().startswith("before\n") and page.read_text().endswith("after\n")
    page.write_text(page.read_text().replace("MariaDB 10", "MariaDB 11"))
    assert not table.differs(usual, page)
    reason = "the engine does not declare that" if outcome == "skipped" else ""
    other = table.seen([*reports(), (outcome, report(*CLUSTER, 1, reason))])
    assert table.differs(other, page)


def test_what_is_asked_later_may_be_either(tmp_path: Path):
    """A short run leaves some to the long one, those that the engine does not declare among them."""
    page = tmp_path / "README.md"
    page.write_text("<!-- generated: conformance -->\n<!-- end -->\n")
    undeclared = [("skipped", report(*CLUSTER, number, "the engine does not declare that")) for number in range(4)]
    table.renew(table.seen([*reports(), *undeclared]), page)
    later = [("skipped", report(*CLUSTER, number, "takes minutes: make faults, make soak")) for number in range(40)]
    assert not table.differs(table.seen([*reports(), *later]), page)
    assert table.differs(table.seen([*reports(), *later[:2]]), page)
    assert table.differs(table.seen([*reports(), *later, ("failed", report(*CLUSTER, 50))]), page)


def test_readme_has_the_table_and_nothing_broken():
    shown = table._numbers(table.README.read_text())
    engines = [row for row in shown if row[0].startswith(("jobs:", "coordination:"))]
    assert len(engines) == sum(map(len, table.ENGINES.values()))
    assert {row[-1] for row in engines} == {"0"}
