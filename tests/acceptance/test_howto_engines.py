"""The how-to pages of the engines, followed by the letter on servers that were just installed.

Left out is what installs them; the later parts of a page are followed with `--long`.
That the pages' other claims hold is tested in `tests/faults` and `tests/engines`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from callboard.testing.engines import galera as galeras
from callboard.testing.engines import haproxy, mariadb, postgresql, zookeeper
from tests.acceptance import readers, readers_ensemble

INSTALL = "make engines"


@pytest.fixture
def fresh_mariadb() -> Iterator[readers.FreshMariaDb]:
    if reason := mariadb.installed() or mariadb.driver():
        pytest.skip(f"needs MariaDB ({reason}): {INSTALL}")
    made = readers.FreshMariaDb()
    yield made
    made.close()


@pytest.fixture
def fresh_postgresql() -> Iterator[readers.FreshPostgreSql]:
    if reason := postgresql.installed():
        pytest.skip(f"needs PostgreSQL ({reason}): {INSTALL}")
    made = readers.FreshPostgreSql()
    yield made
    made.close()


@pytest.fixture
def on_mariadb(tmp_path: Path, fresh_mariadb: readers.FreshMariaDb) -> Iterator[readers.Reader]:
    made = readers.Reader(tmp_path, {"": {"mariadb": fresh_mariadb}}, {})
    yield made
    made.leave()


@pytest.fixture
def on_postgresql(tmp_path: Path, fresh_postgresql: readers.FreshPostgreSql) -> Iterator[readers.Reader]:
    made = readers.Reader(tmp_path, {"": {"postgresql": fresh_postgresql}}, {})
    yield made
    made.leave()


def test_mysql(on_mariadb: readers.Reader) -> None:
    assert on_mariadb.follow("mysql", until="Several machines") > 8


def test_postgresql(on_postgresql: readers.Reader) -> None:
    assert on_postgresql.follow("postgresql", until="Several machines") > 8


@pytest.mark.long
def test_mysql_to_the_end(on_mariadb: readers.Reader) -> None:
    assert on_mariadb.follow("mysql") > 12


@pytest.mark.long
def test_postgresql_to_the_end(on_postgresql: readers.Reader) -> None:
    assert on_postgresql.follow("postgresql") > 12


@pytest.fixture
def cluster(galera: galeras.Cluster) -> Iterator[galeras.Cluster]:
    """A cluster whose user a page may make anew; the others that share it find it as it was."""
    yield galera
    galera.mend()
    galera.members[0].sql(mariadb.OWN_USER)


@pytest.fixture
def nodes(tmp_path: Path, cluster: galeras.Cluster) -> Iterator[readers.Reader]:
    """A reader of pages about a cluster, whose servers are stopped and hold nothing of a former one."""
    cluster.members[0].sql("DROP DATABASE IF EXISTS callboard; DROP USER IF EXISTS callboard@'%'")
    places = {f"db{n}": {"mariadb": readers.Joined(member, tmp_path)} for n, member in enumerate(cluster.members, 1)}
    made = readers.Reader(tmp_path, places, {"@db1,db2,db3": f"@{cluster.hosts}"})
    cluster.stop()
    yield made
    made.leave()


def test_galera(nodes: readers.Reader) -> None:
    assert nodes.follow("galera", until="When two of three are lost") > 8


@pytest.mark.long
def test_galera_to_the_end(nodes: readers.Reader) -> None:
    assert nodes.follow("galera") > 15


def test_haproxy(tmp_path: Path, cluster: galeras.Cluster) -> None:
    if reason := haproxy.installed():
        pytest.skip(f"needs HAProxy ({reason}): {INSTALL}")
    cluster.members[0].sql(
        "CREATE DATABASE IF NOT EXISTS callboard; CREATE OR REPLACE USER callboard@'%' IDENTIFIED BY 'open/sesame@42'; "
        "GRANT ALL ON callboard.* TO callboard@'%'"
    )
    proxy = readers.FreshHaProxy()
    servers = {f"db{n}:3306": f"127.0.0.1:{member.port}" for n, member in enumerate(cluster.members, 1)}
    reader = readers.Reader(tmp_path, {"": {"haproxy": proxy}}, servers)
    try:
        assert reader.follow("haproxy") > 2
    finally:
        reader.leave()
        proxy.close()


@pytest.fixture
def on_ensemble(tmp_path: Path) -> Iterator[readers.Reader]:
    if reason := zookeeper.installed() or haproxy.installed():
        pytest.skip(f"needs ZooKeeper and HAProxy ({reason}): {INSTALL}")
    machines, proxy = readers_ensemble.Machines(), readers.FreshHaProxy("2180", b"srvr")
    places = {f"zk{each.number}": {"zookeeper": each} for each in machines.servers}
    made = readers.Reader(tmp_path, {"": {"haproxy": proxy}, **places}, machines.names)
    yield made
    made.leave()
    proxy.close()
    machines.close()


def test_zookeeper(on_ensemble: readers.Reader) -> None:
    assert on_ensemble.follow("zookeeper", until="What it is good for, and where it ends") > 8


@pytest.mark.long
def test_zookeeper_to_the_end(on_ensemble: readers.Reader) -> None:
    assert on_ensemble.follow("zookeeper") > 35
