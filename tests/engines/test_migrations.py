"""The schema of a database: made once by whoever comes first, changed while older programs go on, refused where it is too new."""

from __future__ import annotations

import threading
from concurrent import futures

import pytest

from callboard import databases, errors
from callboard.jobs import engines
from callboard.jobs.engines.mysql import dialect as mysql
from callboard.jobs.engines.postgresql import dialect as postgresql
from callboard.jobs.engines.sql import migrations
from callboard.testing.conformance.jobs import bench

ADDED = "ALTER TABLE callboard_jobs ADD COLUMN colour integer NOT NULL DEFAULT 7"


@pytest.fixture(params=["mariadb", "postgresql"])
def url(request):
    return request.getfixturevalue(f"{request.param}_database")


@pytest.fixture
def dialect(url):
    return mysql.MySql() if url.startswith("mysql") else postgresql.PostgreSql()


def later(at, dialect, min_reader=1):
    """The steps of a program of the next version."""
    return [*migrations.steps(at, dialect), migrations.Step(2, min_reader, (ADDED,))]


def put(engine):
    made = bench.job()
    bench.unit(engine, bench.seam.Put(made, bench.NOW))
    return made


def test_an_empty_database_gets_its_tables_once_though_many_come_at_once(url):
    together = threading.Barrier(4)

    def come():
        together.wait(20)
        engine = engines.open(url)
        made = put(engine)
        engine.close()
        return made

    with futures.ThreadPoolExecutor(4) as pool:
        made = [future.result(60) for future in [pool.submit(come) for _ in range(4)]]
    engine = engines.open(url)
    assert None not in engine.get([one.key for one in made])
    engine.close()


def test_older_programs_go_on_beside_a_migrated_schema(url, dialect):
    old = engines.open(url)
    before = put(old)
    at = databases.open(url)
    assert migrations.migrate(at, dialect, later(at, dialect)) == (1, 2, 1)
    after = put(old)
    again = engines.open(url)
    assert again.get([before.key, after.key]) == [before, after]
    with at.connect() as on:
        assert on.exec_driver_sql("SELECT DISTINCT colour FROM callboard_jobs").scalars().all() == [7]
    (claimed,) = bench.unit(again, bench.seam.Claim(bench.NODE, (bench.take(),), 1, bench.NOW))
    assert [one.id for one in claimed.jobs] == [before.id]
    again.close()
    old.close()


def test_a_migration_that_was_done_is_not_done_again(url, dialect):
    at = databases.open(url)
    assert migrations.migrate(at, dialect) == (0, 1, 1)
    assert migrations.migrate(at, dialect, later(at, dialect)) == (1, 2, 1)
    assert migrations.migrate(at, dialect, later(at, dialect)) == (2, 2, 1)
    assert engines.migrate(url) == engines.Migrated(2, 2, 1)


def test_a_newer_program_asks_for_the_migration(url, dialect):
    engines.open(url).close()
    at = databases.open(url)
    with pytest.raises(errors.StoreUnfit, match="schema 1, this Callboard writes 2: run callboard migrate"):
        migrations.prepare(at, dialect, later(at, dialect))


def test_a_schema_that_is_too_new_is_refused(url, dialect):
    at = databases.open(url)
    migrations.migrate(at, dialect, later(at, dialect, min_reader=2))
    with pytest.raises(errors.StoreTooNew, match="has schema 2 and needs a Callboard that reads 2; this one reads 1: upgrade"):
        engines.open(url)
