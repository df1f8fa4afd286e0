"""MySQL, MariaDB and Galera clusters, through mysqlclient."""

from __future__ import annotations

import contextlib
import os
import re
from typing import Any, Final

import MySQLdb
import sqlalchemy as sa
from MySQLdb.constants import CLIENT

from callboard.databases import address, lookout, mysql_fitness, products, sockets
from callboard.databases.products import Means
from callboard.kit import urls

CONNECT_SECONDS: Final = 2
LOCK_SECONDS: Final = 5
IDLE_SECONDS: Final = 20
"""How long the server keeps the locks of a client that says nothing in the midst of a transaction (MariaDB only)."""
_MEANS: Final = {
    1213: Means.VICTIM,
    1020: Means.VICTIM,
    1412: Means.VICTIM,
    1053: Means.LOST,
    1080: Means.LOST,
    1152: Means.LOST,
    1158: Means.LOST,
    1159: Means.LOST,
    1160: Means.LOST,
    1161: Means.LOST,
    1184: Means.LOST,
    1317: Means.LOST,
    1927: Means.LOST,
    2002: Means.LOST,
    2003: Means.LOST,
    2005: Means.LOST,
    2006: Means.LOST,
    2013: Means.LOST,
    2014: Means.LOST,
    2026: Means.LOST,
    2027: Means.LOST,
    2055: Means.LOST,
    3169: Means.LOST,
    4031: Means.LOST,
    1040: Means.AWAY,
    1047: Means.AWAY,
    1180: Means.AWAY,
    1203: Means.AWAY,
    1226: Means.AWAY,
    1637: Means.AWAY,
    1205: Means.BUSY,
    1206: Means.BUSY,
    1969: Means.BUSY,
    3024: Means.BUSY,
    3572: Means.BUSY,
    3: Means.FULL,
    1021: Means.FULL,
    1114: Means.FULL,
    1044: Means.REFUSED,
    1045: Means.REFUSED,
    1049: Means.REFUSED,
    1102: Means.REFUSED,
    1129: Means.REFUSED,
    1130: Means.REFUSED,
    1142: Means.REFUSED,
    1143: Means.REFUSED,
    1227: Means.REFUSED,
    1251: Means.REFUSED,
    1370: Means.REFUSED,
    1524: Means.REFUSED,
    1698: Means.REFUSED,
    1820: Means.REFUSED,
    1862: Means.REFUSED,
    2059: Means.REFUSED,
    2061: Means.REFUSED,
    3118: Means.REFUSED,
    3159: Means.REFUSED,
    4151: Means.REFUSED,
    1153: Means.UNFIT,
    1286: Means.UNFIT,
    1290: Means.READ_ONLY,
    1665: Means.UNFIT,
    1836: Means.READ_ONLY,
    2020: Means.UNFIT,
    1146: Means.MISSING,
}
_NO_SPACE = re.compile(r"\berrno: 28\b|\berror:? 28\b|No space left")
_MENDS: Final = {
    1021: "free space on the server's disk",
    1114: "free space on the server's disk",
    3: "free space on the server's disk",
    1040: "raise max_connections on the server",
    1044: "let the owner make the database, if it does not exist, and GRANT this user its rights there",
    1045: "correct the user or the password in the URL",
    1049: "let the owner CREATE DATABASE",
    1102: "correct the name of the database in the URL",
    1129: "run FLUSH HOSTS on the server",
    1130: "let the owner make the user for this client's host",
    1142: "let the owner GRANT ALL on this database to this user",
    1153: "raise max_allowed_packet on the server to 16M or more",
    1227: "let the owner grant that privilege to this user",
    1290: "let the server write again (SET GLOBAL read_only = OFF), or name the one that does",
    1665: "set binlog_format = ROW on the server",
    1698: "give the user a password: this one is only let in by the server's own machine",
    1836: "name the server that writes",
    2020: "raise max_allowed_packet on the server to 16M or more",
    2026: "correct ssl_ca, ssl_cert and ssl_key in the URL, or the server's certificate",
    3159: "encrypt: add ?ssl_ca=FILE to the URL",
}
_SETTINGS: Final = (
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', "
    f"time_zone = '+00:00', innodb_lock_wait_timeout = {LOCK_SECONDS}, wait_timeout = 86400"
)
_MARIADB: Final = f", idle_transaction_timeout = {IDLE_SECONDS}, lock_wait_timeout = {LOCK_SECONDS}"
_MYSQL: Final = f", lock_wait_timeout = {LOCK_SECONDS}"
_GALERA: Final = ", wsrep_sync_wait = 3"
"""What was committed through another node is seen by our reads (1) and by updates that begin a transaction (2)."""
_EXAMINED: Final = (
    "SHOW VARIABLES WHERE Variable_name IN ('version', 'max_allowed_packet', 'read_only', 'super_read_only', 'innodb_read_only', "
    "'wsrep_on', 'log_bin', 'binlog_format')"
)
_HOST: Final = "SUBSTRING_INDEX(CURRENT_USER(), '@', -1)"
_USER: Final = f"LEFT(CURRENT_USER(), CHAR_LENGTH(CURRENT_USER()) - CHAR_LENGTH({_HOST}) - 1)"
"""Cut at the last @: a user's name may have some of its own."""
_MINE: Final = f"GRANTEE = CONCAT(CHAR(39), {_USER}, CHAR(39), '@', CHAR(39), {_HOST}, CHAR(39))"
_GRANTED: Final = (
    f"SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES WHERE {_MINE} "
    f"UNION SELECT PRIVILEGE_TYPE FROM information_schema.SCHEMA_PRIVILEGES WHERE {_MINE} AND DATABASE() LIKE TABLE_SCHEMA "
    f"UNION SELECT '{mysql_fitness.BY_ROLE}' FROM DUAL WHERE COALESCE(CURRENT_ROLE(), 'NONE') <> 'NONE'"
)
_TABLES: Final = "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'callboard_marks'"
_WRITING = b"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE"
_READING = b"SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_MODE = "callboard_mode"
_TOKEN = "callboard_token"


class MySql:
    """See `products.Product`."""

    name = "mysql"
    url = "mysql+mysqldb://"
    marks = (
        "CREATE TABLE IF NOT EXISTS callboard_marks (writer BINARY(16) NOT NULL, number BIGINT NOT NULL, "
        "used_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6), "
        "PRIMARY KEY (writer)) ENGINE=InnoDB"
    )

    def __init__(self, given: address.Address) -> None:
        self._given = given

    def engine_options(self) -> dict[str, Any]:
        return {}

    def greets(self, host: urls.Host, seconds: float) -> bool:
        return sockets.answers(host, b"", seconds)

    def alive(self, host: urls.Host) -> bool:
        answers = sockets.answers(host, b"", lookout.PROBE_SECONDS)
        if answers:  # A login to the end: a server shuts out a host whose connections are all broken off while they greet.
            with contextlib.suppress(MySQLdb.Error):
                self._logged_in(host, seconds=1).close()
        return answers

    def connect(self, host: urls.Host) -> Any:
        return self._logged_in(host, CONNECT_SECONDS)

    def _logged_in(self, host: urls.Host, seconds: int) -> Any:
        given = self._given
        encryption = {name.removeprefix("ssl_"): value for name, value in given.options.items()}
        return MySQLdb.connect(
            host="127.0.0.1" if host[0] == "localhost" else host[0],  # The word means a socket file to the driver.
            port=host[1],
            user=given.user,
            password=given.password,
            database=given.name,
            connect_timeout=seconds,
            charset="utf8mb4",
            use_unicode=True,
            client_flag=CLIENT.FOUND_ROWS,
            autocommit=False,
            **({"ssl": encryption} if encryption else {}),
        )

    def examine(self, raw: Any) -> products.Server:
        said = dict(_rows(raw, _EXAMINED))
        galera = said.get("wsrep_on") == "ON"
        status = dict(_rows(raw, "SHOW STATUS WHERE Variable_name LIKE 'wsrep_%'")) if galera else {}
        state = status.get("wsrep_local_state_comment", "")
        away = ""
        if galera and (status.get("wsrep_ready") != "ON" or not state.startswith(("Synced", "Donor"))):
            away = f"the node is {state or 'not ready'} and does not work with the cluster for now"
        return products.Server(
            version=said["version"],
            galera=galera,
            away=away,
            unfit=mysql_fitness.unfit(said),
            reluctant=not state.startswith("Synced") if galera else False,
        )

    def prepare(self, raw: Any, server: products.Server) -> None:
        settings = _SETTINGS + (_MARIADB if "MariaDB" in server.version else _MYSQL) + (_GALERA if server.galera else "")
        raw.query(settings.encode())
        self.begin_plain(raw)
        try:
            _rows(raw, f"SELECT GET_LOCK('{self.token(raw)}', 0)")
        except MySQLdb.OperationalError as error:  # Some clusters forbid it.
            if self.means(error) is Means.LOST:
                raise

    def take_over(self, raw: Any) -> None:
        pass  # The first statement begins a transaction, whoever sends it.

    def token(self, raw: Any) -> str:
        if not hasattr(raw, _TOKEN):
            setattr(raw, _TOKEN, f"callboard-{os.urandom(12).hex()}")
        return str(getattr(raw, _TOKEN))

    def end(self, raw: Any, token: str) -> None:
        (((thread,),)) = _rows(raw, f"SELECT IS_USED_LOCK('{token}')")
        if thread is not None:
            with contextlib.suppress(MySQLdb.OperationalError):  # It has just ended by itself.
                raw.query(b"KILL %d" % thread)

    def descriptor(self, raw: Any) -> int:
        return int(raw.fileno())

    def begin(self, raw: Any, writer: bytes, number: int) -> bool:
        self.begin_plain(raw)
        raw.query(
            b"UPDATE callboard_marks SET number = number + 2 WHERE writer = x'%b' AND number = %d"
            % (writer.hex().encode(), number)
        )
        return bool(raw.affected_rows() == 1)

    def begin_plain(self, raw: Any) -> None:
        _set_mode(raw, _WRITING)

    def begin_reading(self, raw: Any) -> None:
        _set_mode(raw, _READING)

    def commit(self, raw: Any) -> None:
        raw.commit()

    def check_commit(self, raw: Any) -> None:
        pass  # A statement that failed was undone by itself, or took the whole transaction with it.

    def make_mark(self, on: sa.Connection, writer: bytes) -> int:
        upsert = "INSERT INTO callboard_marks (writer, number) VALUES (%s, 0) ON DUPLICATE KEY UPDATE number = number + 1"
        on.exec_driver_sql(upsert, (writer,))
        return int(on.exec_driver_sql("SELECT number FROM callboard_marks WHERE writer = %s", (writer,)).scalar_one())

    def old_marks(self, on: sa.Connection) -> list[bytes]:
        old = "SELECT writer FROM callboard_marks WHERE used_at < NOW(6) - INTERVAL 1 DAY LIMIT 1000"
        return list(on.exec_driver_sql(old).scalars())

    def open_end(self, error: BaseException) -> bool:
        return self.means(error) is not Means.VICTIM

    def means(self, error: BaseException) -> Means:
        code = _code(error)
        if code in (1026, 1030) and _NO_SPACE.search(str(error)):
            return Means.FULL
        if code == 0 or (isinstance(error, MySQLdb.InterfaceError) and not code):
            return Means.LOST  # "(0, '')": used after it was closed.
        return _MEANS.get(code, Means.BUG)

    def told(self, error: BaseException) -> str:
        if _code(error) == 1205:
            return "waited too long for a lock that another transaction holds"
        return " ".join(str(error.args[1] if len(error.args) > 1 else error).split())

    def mend(self, error: BaseException) -> str:
        return _MENDS.get(_code(error), "")

    def findings(self, on: sa.Connection, server: products.Server) -> list[products.Finding]:
        said = {name: value for name, value in on.exec_driver_sql("SHOW VARIABLES")}
        cluster = {name: value for name, value in on.exec_driver_sql("SHOW STATUS LIKE 'wsrep%%'")}
        granted = set(on.exec_driver_sql(_GRANTED).scalars())
        tables = on.exec_driver_sql(_TABLES).first() is not None
        return mysql_fitness.findings(said, cluster, granted, self._given.name, tables=tables)


def _code(error: BaseException) -> int:
    found = error.args[0] if error.args else -1
    return found if isinstance(found, int) else -1


def _rows(raw: Any, statement: str) -> list[tuple[Any, ...]]:
    with raw.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def _set_mode(raw: Any, mode: bytes) -> None:
    if getattr(raw, _MODE, None) is not mode:
        raw.query(mode)
        setattr(raw, _MODE, mode)
