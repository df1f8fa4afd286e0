"""How SQLite means to run the statements that every job passes: each row by an index, whatever the store holds."""

from __future__ import annotations

import pytest

from callboard.jobs.engines import sqlite
from callboard.jobs.engines.sqlite import files, statements


@pytest.fixture
def connection(tmp_path):
    path = tmp_path / "plans.db"
    sqlite.open(f"sqlite://{path}").close()
    connection = files.connect(path, cache_kib=1024)
    yield connection
    connection.close()


def plan(connection, statement: str, *values: object) -> list[str]:
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]


def test_the_ends_of_claims_find_each_job_by_its_identity(connection):
    steps = plan(connection, statements.SETTLE, "[]", b"")
    assert "SEARCH jobs USING INDEX jobs_identity (domain=? AND id=?)" in steps, steps


def test_a_claim_reads_what_is_ready_in_order_and_no_further(connection):
    steps = plan(connection, statements.first(1), "[]", 10, 1)
    assert any(step.startswith("SEARCH jobs USING COVERING INDEX jobs_ready (route=?") for step in steps), steps
    assert not any("SCAN jobs" in step for step in steps), steps
    inside = steps[: next(index for index, step in enumerate(steps) if "json_each" in step)]
    assert not any("TEMP B-TREE" in step for step in inside), steps


def test_claimed_rows_are_read_in_the_order_they_were_picked(connection):
    steps = plan(connection, statements.CLAIMED, "[]")
    assert any("SCAN json_each" in step for step in steps) and any(
        "SEARCH jobs USING INTEGER PRIMARY KEY" in step for step in steps
    )
