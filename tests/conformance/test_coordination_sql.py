"""The shipped suite of coordination on real database servers."""

from __future__ import annotations

from pathlib import Path

import pytest
import uvloop

from callboard.testing.conformance import coordination
from callboard.testing.conformance.coordination import bench as benches
from callboard.testing.conformance.coordination import ends, guards, offices, outages, watching
from callboard.testing.conformance.coordination.suite import CoordinationSuite
from callboard.testing.engines import galera as galeras
from callboard.testing.engines import mariadb as mariadbs
from callboard.testing.engines import postgresql as postgresqls
from tests.conformance import sql_bench

CLUSTERED = (
    guards.a_path_is_created_once,
    guards.only_one_of_two_that_compare_and_set_succeeds,
    guards.numbers_only_grow,
    watching.what_came_after_is_told_however_fast_it_came,
    ends.ending_another_session_takes_its_entries_at_once,
    ends.a_session_that_is_cut_off_expires,
    offices.of_two_candidates_one_holds_it_after_a_cut,
    outages.the_loss_of_the_leader_ends_no_session,
    outages.without_a_quorum_nothing_is_applied,
)


def _marks(promise: benches.Promise) -> list[pytest.MarkDecorator]:
    return [] if promise in CLUSTERED else [pytest.mark.long]


class TestMariaDb(CoordinationSuite):
    @pytest.fixture(autouse=True)
    def server(self, mariadb: mariadbs.MariaDb) -> None:
        self.mariadb = mariadb

    def bench(self, path: Path) -> benches.Bench:
        return sql_bench.SqlBench(self.mariadb, crash=lambda: _crash(self.mariadb), fail=self.mariadb.kill)


class TestPostgreSql(CoordinationSuite):
    new_loop = staticmethod(uvloop.new_event_loop)

    @pytest.fixture(autouse=True)
    def server(self, postgresql: postgresqls.PostgreSql) -> None:
        self.postgresql = postgresql

    def bench(self, path: Path) -> benches.Bench:
        return sql_bench.SqlBench(self.postgresql, crash=lambda: _crash(self.postgresql), fail=self.postgresql.kill)


class TestGalera(CoordinationSuite):
    """A cluster of three: here the promises that are about servers that die, or that a cluster might break; with `--long` all."""

    @pytest.fixture(autouse=True)
    def cluster(self, galera: galeras.Cluster) -> None:
        self.galera = galera

    def bench(self, path: Path) -> benches.Bench:
        one, two, _ = self.galera.members
        return sql_bench.SqlBench(self.galera, crash=one.kill, fail=lambda: self.galera.kill(one, two))

    @pytest.mark.parametrize("promise", [pytest.param(each, id=each.name, marks=_marks(each)) for each in coordination.ALL])
    def test_promise(self, promise: benches.Promise, tmp_path: Path) -> None:
        super().test_promise(promise, tmp_path)


def _crash(server: mariadbs.MariaDb | postgresqls.PostgreSql) -> None:
    server.kill()
    server.start()
