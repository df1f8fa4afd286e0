"""Judging servers by what they say of themselves."""

from __future__ import annotations

import pytest

from callboard.databases import mysql_fitness, postgresql_fitness
from callboard.databases.products import Level

MARIADB = {
    "version": "10.11.19-MariaDB-log",
    "max_allowed_packet": str(16 << 20),
    "read_only": "OFF",
    "innodb_flush_log_at_trx_commit": "1",
    "character_set_database": "utf8mb4",
    "collation_database": "utf8mb4_general_ci",
    "max_connections": "151",
    "log_bin": "OFF",
    "binlog_format": "MIXED",
}
NODE = MARIADB | {
    "wsrep_on": "ON",
    "binlog_format": "ROW",
    "innodb_autoinc_lock_mode": "2",
    "wsrep_provider_options": "pc.recovery = true; x = y",
}
CLUSTER = {"wsrep_cluster_size": "3", "wsrep_local_state_comment": "Synced"}
POSTGRESQL = {
    "server_version_num": "150018",
    "server_version": "15.18",
    "default_transaction_read_only": "off",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "max_connections": "100",
}
ALL = frozenset(mysql_fitness.PRIVILEGES)


def mysql(said=None, cluster=None, privileges=ALL, tables=False):
    found = mysql_fitness.findings(said or MARIADB, cluster or {}, privileges, "n", tables=tables)
    return [(each.level, each.what, each.mend) for each in found if each.level is not Level.FIT]


def postgresql(said=None, recovering=False, encoding="UTF8", may_create=True, schema="public", may_work=None):
    found = postgresql_fitness.findings(POSTGRESQL | (said or {}), recovering, encoding, may_create, schema, may_work)
    return [(each.level, each.what, each.mend) for each in found if each.level is not Level.FIT]


def test_what_is_fit():
    assert mysql() == []
    assert mysql(MARIADB | {"version": "8.0.36"}) == []
    assert mysql(NODE, CLUSTER) == []
    assert postgresql() == []
    assert mysql_fitness.unfit(MARIADB) == ""
    assert postgresql_fitness.unfit(150018, "15.18", False, False, "UTF8") == ""
    assert "LATIN1" in postgresql_fitness.unfit(150018, "15.18", False, False, "LATIN1")


@pytest.mark.parametrize(
    ("said", "level", "word"),
    [
        ({"version": "10.5.9-MariaDB"}, Level.UNFIT, "10.6"),
        ({"version": "5.7.44"}, Level.UNFIT, "8.0"),
        ({"read_only": "ON"}, Level.UNFIT, "read-only"),
        ({"super_read_only": "ON"}, Level.UNFIT, "read-only"),
        ({"max_allowed_packet": "65536"}, Level.UNFIT, "16M"),
        ({"max_allowed_packet": str(4 << 20)}, Level.WARNING, "16M"),
        ({"log_bin": "ON", "binlog_format": "STATEMENT"}, Level.UNFIT, "binlog_format = ROW"),
        ({"innodb_flush_log_at_trx_commit": "2"}, Level.WARNING, "innodb_flush_log_at_trx_commit = 1"),
        ({"log_bin": "ON", "sync_binlog": "0"}, Level.WARNING, "sync_binlog = 1"),
        ({"innodb_doublewrite": "OFF"}, Level.WARNING, "innodb_doublewrite = ON"),
        ({"character_set_database": "latin1"}, Level.WARNING, "utf8mb4"),
        ({"max_connections": "20"}, Level.WARNING, "max_connections"),
        ({"default_storage_engine": "MyISAM"}, Level.WARNING, "InnoDB"),
    ],
)
def test_what_is_wrong_with_a_mysql_server(said, level, word):
    ((found, what, mend),) = mysql(MARIADB | said)
    assert found is level
    assert word in what + mend
    assert bool(mysql_fitness.unfit(MARIADB | said)) == (level is Level.UNFIT)


@pytest.mark.parametrize(
    ("said", "cluster", "level", "word"),
    [
        ({}, {"wsrep_cluster_size": "2"}, Level.WARNING, "halves"),
        ({}, {"wsrep_cluster_size": "4"}, Level.WARNING, "halves"),
        ({"binlog_format": "MIXED"}, {}, Level.UNFIT, "ROW"),
        ({"innodb_autoinc_lock_mode": "1"}, {}, Level.WARNING, "innodb_autoinc_lock_mode = 2"),
        ({"wsrep_provider_options": "pc.recovery = false"}, {}, Level.WARNING, "pc.recovery"),
        ({"wsrep_provider_options": "pc.ignore_sb = true"}, {}, Level.UNFIT, "pc.ignore_sb"),
        ({"wsrep_dirty_reads": "ON"}, {}, Level.WARNING, "wsrep_dirty_reads"),
    ],
)
def test_what_is_wrong_with_a_node_of_a_cluster(said, cluster, level, word):
    ((found, what, mend),) = mysql(NODE | said, CLUSTER | cluster)
    assert found is level
    assert word in what + mend


def test_privileges_that_are_lacking_are_named():
    ((level, what, mend),) = mysql(privileges=ALL - {"CREATE", "INDEX"})
    assert (level, what) == (Level.UNFIT, "the user lacks CREATE, INDEX")
    assert "ON `n`.*" in mend


@pytest.mark.parametrize(
    ("said", "more", "level", "word"),
    [
        ({"server_version_num": "120001", "server_version": "12.1"}, {}, Level.UNFIT, "13"),
        ({"default_transaction_read_only": "on"}, {}, Level.UNFIT, "read-only"),
        ({}, {"recovering": True}, Level.UNFIT, "standby"),
        ({}, {"encoding": "SQL_ASCII"}, Level.UNFIT, "UTF8"),
        ({}, {"may_create": False}, Level.UNFIT, "GRANT CREATE"),
        ({}, {"may_create": False, "schema": ""}, Level.UNFIT, "search_path"),
        ({}, {"may_create": False, "may_work": True}, Level.WARNING, "callboard migrate"),
        ({}, {"may_create": True, "may_work": False}, Level.UNFIT, "GRANT SELECT"),
        ({"fsync": "off"}, {}, Level.WARNING, "fsync = on"),
        ({"full_page_writes": "off"}, {}, Level.WARNING, "full_page_writes = on"),
        ({"synchronous_commit": "off"}, {}, Level.WARNING, "synchronous_commit"),
        ({"max_connections": "20"}, {}, Level.WARNING, "max_connections"),
    ],
)
def test_what_is_wrong_with_a_postgresql_server(said, more, level, word):
    ((found, what, mend),) = postgresql(said, **more)
    assert found is level
    assert word in what + mend


def test_a_user_may_lack_what_only_migrating_needs_where_the_tables_are_there():
    few = ALL - mysql_fitness.MIGRATING
    ((level, what, mend),) = mysql(privileges=few, tables=True)
    assert level is Level.WARNING and "CREATE" in what and "callboard migrate" in mend
    assert [level for level, _, _ in mysql(privileges=few)] == [Level.UNFIT]
    assert [level for level, _, _ in mysql(privileges=few - {"DELETE"}, tables=True)] == [Level.UNFIT]


def test_what_comes_by_a_role_is_not_seen():
    ((level, what, _),) = mysql(privileges={mysql_fitness.BY_ROLE})
    assert level is Level.WARNING and "role" in what
