"""What the drivers' errors mean, as the drivers raise them."""

from __future__ import annotations

import psycopg
import pytest

from callboard.databases import address, postgresql
from callboard.databases.products import Means
from callboard.testing.engines import mariadb


class TestPostgreSql:
    product = postgresql.PostgreSql(address.parsed("postgres://u:secret@h/n"))

    @pytest.mark.parametrize(
        ("state", "means"),
        [
            ("40001", Means.VICTIM),
            ("40P01", Means.VICTIM),
            ("40003", Means.LOST),
            ("08006", Means.LOST),
            ("57P01", Means.LOST),
            ("25P03", Means.LOST),
            ("57P03", Means.AWAY),
            ("53300", Means.AWAY),
            ("53100", Means.FULL),
            ("55P03", Means.BUSY),
            ("28P01", Means.REFUSED),
            ("3D000", Means.REFUSED),
            ("42501", Means.REFUSED),
            ("25006", Means.READ_ONLY),
            ("42P01", Means.MISSING),
            ("42601", Means.BUG),
            ("23505", Means.BUG),
        ],
    )
    def test_by_code(self, state, means):
        assert self.product.means(psycopg.errors.lookup(state)("words")) is means

    @pytest.mark.parametrize(
        ("words", "means"),
        [
            ("server closed the connection unexpectedly", Means.LOST),
            ("connection failed: FATAL:  the database system is starting up", Means.AWAY),
            ("connection failed: FATAL:  sorry, too many clients already", Means.AWAY),
            ('connection failed: FATAL:  password authentication failed for user "u"', Means.REFUSED),
            ('connection failed: FATAL:  database "n" does not exist', Means.REFUSED),
            ("connection failed: FATAL:  no pg_hba.conf entry for host", Means.REFUSED),
        ],
    )
    def test_by_words_at_the_login(self, words, means):
        assert self.product.means(psycopg.OperationalError(words)) is means

    def test_whether_a_commit_is_left_open(self):
        assert self.product.open_end(psycopg.OperationalError("the connection is lost"))
        assert self.product.open_end(psycopg.errors.AdminShutdown())
        assert not self.product.open_end(psycopg.errors.SerializationFailure())
        assert not self.product.open_end(psycopg.errors.DiskFull())


@pytest.mark.skipif(mariadb.driver() is not None, reason="needs mysqlclient: make engines")
class TestMySql:
    @pytest.fixture
    def product(self):
        from callboard.databases import mysql

        return mysql.MySql(address.parsed("mysql://u:secret@h/n"))

    @pytest.mark.parametrize(
        ("code", "means"),
        [
            (1213, Means.VICTIM),
            (2006, Means.LOST),
            (2013, Means.LOST),
            (1927, Means.LOST),
            (1053, Means.LOST),
            (0, Means.LOST),
            (1047, Means.AWAY),
            (1180, Means.AWAY),
            (1040, Means.AWAY),
            (1205, Means.BUSY),
            (1021, Means.FULL),
            (1114, Means.FULL),
            (3, Means.FULL),
            (1045, Means.REFUSED),
            (1049, Means.REFUSED),
            (1142, Means.REFUSED),
            (1290, Means.READ_ONLY),
            (1665, Means.UNFIT),
            (1153, Means.UNFIT),
            (1146, Means.MISSING),
            (1064, Means.BUG),
            (1062, Means.BUG),
        ],
    )
    def test_by_code(self, product, code, means):
        import MySQLdb

        assert product.means(MySQLdb.OperationalError(code, "words")) is means

    def test_whether_a_disk_is_full_is_in_the_words(self, product):
        import MySQLdb

        assert product.means(MySQLdb.OperationalError(1030, 'Got error 28 "No space left on device" from InnoDB')) is Means.FULL
        assert product.means(MySQLdb.OperationalError(1030, "Got error 122 from storage engine")) is Means.BUG
        assert product.means(MySQLdb.OperationalError(1026, "Error writing file (errno: 28)")) is Means.FULL

    def test_whether_a_commit_is_left_open(self, product):
        import MySQLdb

        assert product.open_end(MySQLdb.OperationalError(2013, "lost"))
        assert product.open_end(MySQLdb.OperationalError(1180, "error during COMMIT"))
        assert not product.open_end(MySQLdb.OperationalError(1213, "deadlock"))
