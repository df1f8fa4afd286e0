"""A busy table of PostgreSQL is vacuumed by those who write it, beside their writing."""

from __future__ import annotations

from callboard import databases
from callboard.jobs import engines
from callboard.jobs.engines.postgresql import dialect
from callboard.jobs.engines.sql import tidying

COUNT = "SELECT vacuum_count FROM pg_stat_user_tables WHERE relname = 'callboard_jobs'"


async def test_what_was_written_is_tidied_once_it_is_enough(postgresql_database, postgresql, eventually):
    engines.open(postgresql_database).close()
    at = databases.open(postgresql_database)
    made = tidying.Tidying(at, dialect.PostgreSql.tidy, rows=100)
    for _ in range(3):
        made.wrote(33)
    assert vacuums(at) == 0
    made.wrote(1)
    await eventually(lambda: vacuums(at) == 1)
    made.wrote(1_000)
    assert vacuums(at) == 1, "it rests between two"


async def test_a_server_that_is_away_is_no_trouble(postgresql_database, postgresql, eventually):
    engines.open(postgresql_database).close()
    made = tidying.Tidying(databases.open(postgresql_database), dialect.PostgreSql.tidy, rows=1)
    postgresql.kill()
    made.wrote(1)
    await eventually(lambda: not made._thread.is_alive())


def test_where_nothing_is_needed_nothing_begins():
    made = tidying.Tidying(None, "", rows=1)
    made.wrote(1_000_000)
    assert made._thread is None


def vacuums(at):
    with at.connect() as on:
        return on.exec_driver_sql(COUNT).scalar_one()
