"""The private database servers themselves: started, killed, frozen, brought back, with all that they had acknowledged."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from callboard.node import processes
from callboard.testing.engines import galera as galeras
from callboard.testing.engines import haproxy as haproxies
from callboard.testing.engines import mariadb as mariadbs
from callboard.testing.engines import postgresql as postgresqls
from callboard.testing.engines import servers, trees

ROWS = "SELECT a FROM x ORDER BY a"
OWNER = """
import json, sys
from callboard.node import processes
from callboard.testing.engines import mariadb, postgresql, trees
made = [mariadb.MariaDb(), postgresql.PostgreSql()]
for server in made:
    server.start()
roots = [server.identity for server in made]
all = [process for root in roots for process in (root, *trees.members(root))]
print(json.dumps([[str(server.data.parent) for server in made], [(process.pid, process.started) for process in all]]), flush=True)
sys.stdin.read()
"""


needed = pytest.mark.usefixtures("mariadb", "postgresql")


@pytest.fixture(params=["mariadb", "postgresql"])
def server(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def table(server):
    """A table with two committed rows, in a new database; returns that database's name."""
    name = server.database().rpartition("/")[2]
    server.sql("CREATE TABLE x (a INT PRIMARY KEY); INSERT INTO x VALUES (1), (2);", name)
    return name


def _passed(since):
    return f"{(time.monotonic() - since) * 1000:.0f} ms"


def test_committed_rows_outlive_a_crash(server, table, record_property):
    since = time.monotonic()
    server.kill()
    assert not server.running and not server.greets()
    server.start()
    record_property("figure", f"{server.name}: killed and back in {_passed(since)}")
    assert server.sql(ROWS, table) == [("1",), ("2",)]


def test_and_an_orderly_restart(server, table):
    server.restart()
    assert server.sql(ROWS, table) == [("1",), ("2",)]


def test_a_frozen_server_says_nothing_and_goes_on(server, table):
    server.freeze()
    everybody = [server.identity, *trees.members(server.identity)]
    servers.wait_for(lambda: {processes.status(each.pid).state for each in everybody} == {"T"}, "all of it is frozen", 5)
    assert server.frozen and not server.greets(0.1)
    with pytest.raises(TimeoutError, match="did not answer"):
        server.sql(ROWS, table, seconds=0.1)
    server.cont()
    servers.wait_for(server.greets, "it goes on", 20)
    assert server.sql(ROWS, table) == [("1",), ("2",)]


def test_whatever_was_done_to_it_is_mended(server):
    server.freeze()
    server.mend()
    assert not server.frozen and server.greets()
    server.kill()
    server.mend()
    assert server.greets()


def test_what_was_set_for_all_is_mended(mariadb, postgresql):
    mariadb.sql("SET GLOBAL read_only = 1")
    mariadb.mend()
    assert mariadb.sql("SELECT @@GLOBAL.read_only") == [("0",)]
    postgresql.sql("ALTER SYSTEM SET default_transaction_read_only = on;")
    postgresql.sql("SELECT pg_reload_conf();")
    postgresql.mend()
    assert postgresql.sql("SHOW default_transaction_read_only;") == [("off",)]


def test_errors_are_told_in_the_servers_words(server):
    with pytest.raises(RuntimeError, match=r"(?i)no_such_table"):
        server.sql("SELECT * FROM no_such_table;", "callboard")


def test_databases_are_new_each_time(server):
    first, second = server.database(), server.database()
    assert first != second
    for url in (first, second):
        assert re.fullmatch(r"(mysql|postgresql)://callboard:[\w-]+@127\.0\.0\.1:\d+/callboard_\d+", url)


def test_url_and_password_let_drivers_in(mariadb, postgresql):
    import MySQLdb
    import psycopg

    with MySQLdb.connect(
        host="127.0.0.1", port=mariadb.port, user=mariadbs.USER, passwd=mariadbs.PASSWORD, db="callboard"
    ) as one:
        cursor = one.cursor()
        assert cursor.execute("CREATE TABLE y (a INT PRIMARY KEY)") == 0  # And this closes it.
    with psycopg.connect(postgresql.url()) as other:
        other.execute("CREATE TABLE y (a INT PRIMARY KEY)")
    with pytest.raises(MySQLdb.OperationalError):
        MySQLdb.connect(host="127.0.0.1", port=mariadb.port, user=mariadbs.USER, passwd="wrong")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(postgresql.url().replace(postgresqls.PASSWORD, "wrong"))


@needed
def test_settings_are_passed_on_and_nothing_is_left():
    before = set(processes_of_ours())
    with mariadbs.MariaDb("--max-allowed-packet=1M") as one, postgresqls.PostgreSql("work_mem=1MB") as other:
        assert one.sql("SELECT @@max_allowed_packet") == [("1048576",)]
        assert other.sql("SHOW work_mem;") == [("1MB",)]
        places = [one.data.parent, other.data.parent]
        assert set(processes_of_ours()) - before
    assert not any(map(Path.exists, places))
    servers.wait_for(lambda: set(processes_of_ours()) <= before, "nothing is left", 10)


@needed
def test_a_setting_that_the_server_refuses_is_told():
    with pytest.raises(TimeoutError, match="no-such-setting"), mariadbs.MariaDb("--no-such-setting"):
        pass
    with pytest.raises(TimeoutError, match="no_such_setting"), postgresqls.PostgreSql("no_such_setting=1"):
        pass


@needed
def test_nothing_outlives_an_owner_that_was_killed():
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    places, found = json.loads(owner.stdout.readline())
    owner.kill()
    owner.communicate()
    everybody = [processes.Process(*each) for each in found]
    assert len(everybody) > 5
    servers.wait_for(
        lambda: not any(map(_lives, everybody)) and not any(Path(place).exists() for place in places), "all is gone", 30
    )


def _lives(process):
    status = processes.status(process.pid)
    return status is not None and status.started == process.started and status.state != "Z"


def processes_of_ours():
    """All that this process has started, as far down as it goes."""
    return trees.members(processes.this())


def test_three_members_hold_the_same(galera, record_property):
    database = galera.database()
    name = database.rpartition("/")[2]
    galera.members[0].sql("CREATE TABLE x (a INT PRIMARY KEY); INSERT INTO x VALUES (1)", name)
    assert _rows(galera, name) == [{1}] * 3
    assert database == galera.url(name) and database.count("127.0.0.1:") == 3
    since = time.monotonic()
    with galeras.Cluster(1) as alone:
        record_property("figure", f"galera: a cluster of one from the template in {_passed(since)}")
        alone.stop()
        alone.start()
        assert alone.ready()


def test_members_fall_one_after_the_other_and_come_back(galera, record_property):
    name = _table(galera)
    first, second, third = galera.members
    since = time.monotonic()
    third.kill()
    first.sql("INSERT INTO x VALUES (1)", name, seconds=20)
    record_property("figure", f"galera: written again {_passed(since)} after one of three was killed")
    second.kill()
    with pytest.raises(RuntimeError, match=r"1180|1047|1213"):
        first.sql("INSERT INTO x VALUES (2)", name, seconds=20)
    assert not first.primary()
    assert galera.bootstrap() is first
    first.sql("INSERT INTO x VALUES (3)", name, seconds=20)
    third.forget()
    since = time.monotonic()
    galera.start()
    record_property("figure", f"galera: back {_passed(since)} after two of three were started (increment, whole state)")
    assert "SST received" in third.said(1000)
    assert [rows - {2} for rows in _rows(galera, name)] == [{1, 3}] * 3


def test_what_was_acknowledged_outlives_the_kill_of_all_three(galera, record_property):
    """The first and the last are written to, so that their data differs from the second's at the end."""
    name = _table(galera)
    acknowledged = []
    writers = [threading.Thread(target=_write, args=(galera.members[n], name, n + 1, acknowledged)) for n in (0, 2, 2)]
    for writer in writers:
        writer.start()
    servers.wait_for(lambda: len(acknowledged) >= 300, "300 rows are acknowledged", 20)
    galera.kill()
    for writer in writers:
        writer.join()
    since = time.monotonic()
    galera.start()
    record_property("figure", f"galera: back {_passed(since)} after all three were killed under load")
    assert [set(acknowledged) - rows for rows in _rows(galera, name)] == [set()] * 3
    assert len({frozenset(rows) for rows in _rows(galera, name)}) == 1


def _write(member, name, number, acknowledged):
    import MySQLdb

    where = {"host": "127.0.0.1", "port": member.port, "user": mariadbs.USER, "passwd": mariadbs.PASSWORD, "db": name}
    connection = MySQLdb.connect(**where)
    try:
        for row in range(number * 1_000_000 + threading.get_ident() % 1000 * 1000, 2**31):
            connection.cursor().execute("INSERT INTO x VALUES (%s)", (row,))
            connection.commit()
            acknowledged.append(row)
    except MySQLdb.Error:
        connection.close()


def test_a_frozen_member_is_left_behind_passed_over_and_catches_up(galera, record_property):
    name = _table(galera)
    first, second, _ = galera.members
    with haproxies.HaProxy([member.port for member in galera.members]) as proxy:
        servers.wait_for(lambda: set(proxy.states().values()) == {"UP"}, "all are up", 20)
        assert re.search(rf"@127\.0\.0\.1:{proxy.port}/{name}$", proxy.url(galera.url(name)))
        servers.wait_for(lambda: _reached_by(proxy) == first.port, "the first serves", 20)
        since = time.monotonic()
        first.freeze()
        second.sql("INSERT INTO x VALUES (1)", name, seconds=20)
        record_property("figure", f"galera: written again {_passed(since)} after the first was frozen")
        servers.wait_for(lambda: _reached_by(proxy) == second.port, "the second serves", 20)
        record_property("figure", f"haproxy: passed over {_passed(since)} after the first was frozen")
        assert first.frozen and first.status() == {}
        galera.mend()
        servers.wait_for(lambda: _reached_by(proxy) == first.port, "the first serves again", 20)
    assert _rows(galera, name) == [{1}] * 3


def _reached_by(proxy):
    """The port of the server that a new connection by way of the proxy reaches."""
    import MySQLdb

    try:
        connection = MySQLdb.connect(
            host="127.0.0.1", port=proxy.port, user=mariadbs.USER, passwd=mariadbs.PASSWORD, connect_timeout=1, read_timeout=1
        )
        cursor = connection.cursor()
        cursor.execute("SHOW VARIABLES LIKE 'port'")
        ((_, port),) = cursor.fetchall()
        connection.close()
    except MySQLdb.Error:
        return None
    return int(port)


def _table(cluster):
    """A new database with an empty table; returns its name."""
    name = cluster.database().rpartition("/")[2]
    cluster.members[0].sql("CREATE TABLE x (a INT PRIMARY KEY)", name)
    return name


def _rows(cluster, name):
    """What each member has, when it has caught up."""
    ask = f"SET SESSION wsrep_sync_wait = 1; {ROWS}"
    return [{int(row[0]) for row in member.sql(ask, name)} for member in cluster.members]
