"""`callboard` on databases as people use them, and in error: a line each, with what helps, and no password.

What is asked of the store itself is in `tests/conformance`, what happens when it breaks in `tests/faults`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from callboard.jobs import engines
from callboard.kit import ports
from callboard.testing.engines import mariadb as mariadbs
from callboard.testing.engines import postgresql as postgresqls
from tests.acceptance import shells

SECRET = "open-sesame"
GUEST = "guest-sesame"


@pytest.fixture(autouse=True)
def clean(nothing_is_left: None) -> None:
    """Of all that is started here."""


def test_mariadb_refuses(shell: shells.Shell, mariadb: mariadbs.MariaDb):
    wrong = mariadb.url().replace(SECRET, "closed-sesame")
    shell.refuses(wrong, 6, "store_refused", "Access denied", "correct the user or the password in the URL")
    shell.refuses(mariadb.url("callboard_nowhere"), 6, "store_refused", "callboard_nowhere", "CREATE DATABASE")
    mariadb.sql("SET GLOBAL read_only = ON")
    shell.refuses(mariadb.url(), 6, "store_unfit", "read_only", "let it write again")
    mariadb.sql("SET GLOBAL read_only = OFF; SET GLOBAL max_allowed_packet = 524288")
    shell.refuses(mariadb.url(), 6, "store_unfit", "max_allowed_packet", "16M")
    mariadb.freeze()
    shell.refuses(mariadb.url(), 5, "store_unavailable", "does not answer", "is it running?")
    mariadb.kill()
    shell.refuses(mariadb.url(), 5, "store_unavailable", "does not answer", "is it running?")


@pytest.fixture
def guest(mariadb: mariadbs.MariaDb, mariadb_database: str) -> Iterator[str]:
    """The database's URL for a user who may only read."""
    mariadb.sql(f"CREATE USER guest@'%' IDENTIFIED BY '{GUEST}'")
    mariadb.sql(f"GRANT SELECT ON {mariadb_database.rpartition('/')[2]}.* TO guest@'%'")
    yield mariadb_database.replace(f"callboard:{SECRET}", f"guest:{GUEST}")
    mariadb.sql("DROP USER guest@'%'")


def test_mariadb_lets_a_user_only_read(shell: shells.Shell, guest: str):
    shell.refuses(guest, 6, "store_refused", "CREATE", "GRANT ALL on this database")


@pytest.mark.long
def test_mariadb_lets_a_user_only_read_what_is_there(tmp_path: Path, mariadb_database: str, guest: str):
    """The nodes find out."""
    engines.open(mariadb_database).close()
    shells.refused(tmp_path, guest, 6, "store_refused", "INSERT", "GRANT ALL on this database")


def test_an_old_mysql(shell: shells.Shell, mariadb: mariadbs.MariaDb):
    """The server tells what it is told to tell."""
    for version in ("5.7.44-log", "10.5.28-MariaDB"):
        with mariadbs.MariaDb(f"--version={version}") as old:
            shell.refuses(old.url(), 6, "store_unfit", version.partition("-")[0], "is too old", "is needed")


def test_postgresql_refuses(shell: shells.Shell, postgresql: postgresqls.PostgreSql, postgresql_database: str):
    wrong = postgresql.url().replace(SECRET, "closed-sesame")
    shell.refuses(wrong, 6, "store_refused", "password", "correct the user or the password in the URL")
    shell.refuses(postgresql.url("callboard_nowhere"), 6, "store_refused", "callboard_nowhere", "CREATE DATABASE")
    postgresql.sql("ALTER ROLE callboard SET default_transaction_read_only = on")
    shell.refuses(postgresql.url(), 6, "store_unfit", "read-only", "set it off there")
    grown_old(postgresql, postgresql_database)
    shell.refuses(postgresql_database, 6, "store_unfit", "PostgreSQL 12.22 is too old", "13")
    postgresql.freeze()
    shell.refuses(postgresql.url(), 5, "store_unavailable", "does not answer", "is it running?")
    postgresql.kill()
    shell.refuses(postgresql.url(), 5, "store_unavailable", "does not answer", "is it running?")


def grown_old(server: postgresqls.PostgreSql, url: str) -> None:
    """Have our user told of an older version in this database: a function of ours stands before the product's own."""
    server.sql(
        "CREATE FUNCTION public.current_setting(text) RETURNS text LANGUAGE sql AS $$ SELECT CASE $1 "
        "WHEN 'server_version_num' THEN '120022' WHEN 'server_version' THEN '12.22' "
        "ELSE pg_catalog.current_setting($1) END $$",
        url.rpartition("/")[2],
    )
    server.sql("ALTER ROLE callboard RESET ALL; ALTER ROLE callboard SET search_path = public, pg_catalog")


def test_postgresql_lets_a_user_only_read(shell: shells.Shell, postgresql: postgresqls.PostgreSql, postgresql_database: str):
    postgresql.sql(f"CREATE ROLE guest LOGIN PASSWORD '{GUEST}'")
    guest = postgresql_database.replace(f"callboard:{SECRET}", f"guest:{GUEST}")
    shell.refuses(guest, 6, "store_refused", "permission denied", "let the owner grant that privilege")
    postgresql.sql("DROP ROLE guest")


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("mysql://callboard:open-sesame@127.0.0.1:1/callboard", "MySQLdb"),
        ("postgresql://callboard:open-sesame@127.0.0.1:1/callboard", "psycopg"),
        ("postgresql://callboard:open-sesame@127.0.0.1:1/callboard", "sqlalchemy"),
    ],
)
def test_a_driver_that_is_not_installed(tmp_path: Path, url: str, driver: str):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / f"{driver}.py").write_text(f"raise ModuleNotFoundError('No module named {driver}', name={driver!r})\n")
    extra = f"pip install 'callboard[{url.partition(':')[0]}]'"
    shells.refused(tmp_path, url, 2, "invalid_setting", driver, extra, PYTHONPATH=str(tmp_path / "bare"))


def test_a_url_that_is_none(shell: shells.Shell):
    for url in (
        "mysql://callboard:open-sesame@127.0.0.1",
        "mysql://callboard:open-sesame@127.0.0.1:many/callboard",
        "mysql://callboard:open/sesame@127.0.0.1/callboard",
        "postgresql://callboard:open-sesame@127.0.0.1/callboard?sslmodus=full",
        "oracle://callboard:open-sesame@127.0.0.1/callboard",
    ):
        shell.refuses(url, 2, "invalid_setting")


def test_postgresql_of_another_encoding(shell: shells.Shell, postgresql: postgresqls.PostgreSql):
    """It has no other for single columns, as MySQL has."""
    postgresql.sql("CREATE DATABASE callboard_latin OWNER callboard TEMPLATE template0 ENCODING LATIN1")
    shell.refuses(postgresql.url("callboard_latin"), 6, "store_unfit", "LATIN1", "CREATE DATABASE … ENCODING 'UTF8'")


def test_mariadb_of_another_character_set(tmp_path: Path, mariadb: mariadbs.MariaDb, mariadb_database: str):
    """What it cannot write in its own is written all the same: in arguments, results, tags, errors."""
    mariadb.sql(f"ALTER DATABASE {mariadb_database.rpartition('/')[2]} CHARACTER SET latin1 COLLATE latin1_swedish_ci")
    text = "Žluťoučký 猫 🐈"
    (tmp_path / "letters.py").write_text(shells.APP)
    port = ports.free()[0]
    started = shells.run(tmp_path, "up", "letters:app", "--port", port, "--workers", 1, "--store", mariadb_database, "--detach")
    assert started.returncode == 0, started.stderr
    try:
        ran = shells.run(tmp_path, "submit", "letters.read", f"text={text}", "--tag", text, "--wait", "--json")
        assert ran.returncode == 0, ran.stderr
        done = json.loads(shells.run(tmp_path, "job", json.loads(ran.stdout)["id"], "--json").stdout)
        assert (done["result"], done["tags"]) == (text[::-1], [text])
        assert [error["message"] for error in done["errors"]] == [text]
        assert done["id"] in shells.run(tmp_path, "jobs", "--tag", text, "--json").stdout
    finally:
        assert shells.run(tmp_path, "down").returncode == 0
