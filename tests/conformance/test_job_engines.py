"""The shipped suite on every engine of this repository."""

from __future__ import annotations

from callboard.testing.conformance.jobs.suite import JobEngineSuite


class TestMemory(JobEngineSuite):
    url = "memory:suite"


class TestSqlite(JobEngineSuite):
    url = "sqlite://{path}/jobs.db"
