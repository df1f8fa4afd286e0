"""The shipped suite on real databases. A class of tests has one database, emptied before each."""

from __future__ import annotations

import pytest

from callboard.testing.conformance.jobs.suite import JobEngineSuite
from tests.conformance import emptying


@pytest.fixture(scope="module")
def mariadb_of_all(private_mariadb):
    return private_mariadb.database()


@pytest.fixture(scope="module")
def postgresql_of_all(private_postgresql):
    return private_postgresql.database()


@pytest.fixture(scope="module")
def galera_of_all(private_galera):
    return private_galera.database()


class TestMariaDb(JobEngineSuite):
    @pytest.fixture
    def store(self, mariadb, mariadb_of_all):
        return emptying.emptied(mariadb_of_all)


class TestPostgreSql(JobEngineSuite):
    @pytest.fixture
    def store(self, postgresql, postgresql_of_all):
        return emptying.emptied(postgresql_of_all)


class TestGalera(JobEngineSuite):
    @pytest.fixture
    def store(self, galera, galera_of_all):
        return emptying.emptied(galera_of_all)
