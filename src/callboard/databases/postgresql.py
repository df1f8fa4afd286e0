"""PostgreSQL, through psycopg 3."""

from __future__ import annotations

import os
import re
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from psycopg import pq

from callboard.databases import address, lookout, postgresql_fitness, products, sockets
from callboard.databases.products import Means
from callboard.kit import urls

CONNECT_SECONDS: Final = 2
LOCK_SECONDS: Final = 5
IDLE_SECONDS: Final = 20
"""How long the server keeps the locks of a client that says nothing in the midst of a transaction."""
_SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
_CLASSES: Final = {
    "08": Means.LOST,
    "28": Means.REFUSED,
    "40": Means.VICTIM,
    "53": Means.AWAY,
}
_MEANS: Final = {
    "57P01": Means.LOST,
    "57P02": Means.LOST,
    "57P05": Means.LOST,
    "25P03": Means.LOST,
    "25P04": Means.LOST,
    "57P03": Means.AWAY,
    "57P04": Means.REFUSED,
    "57014": Means.BUSY,
    "55P03": Means.BUSY,
    "53100": Means.FULL,
    "3D000": Means.REFUSED,
    "3F000": Means.REFUSED,
    "42501": Means.REFUSED,
    "25006": Means.READ_ONLY,
    "42P01": Means.MISSING,
    "40003": Means.LOST,
}
_MENDS: Final = {
    "53100": "free space on the server's disk",
    "53300": "raise max_connections on the server",
    "28P01": "correct the user or the password in the URL",
    "28000": "correct the user in the URL, or let the owner allow it in pg_hba.conf",
    "3D000": "let the owner CREATE DATABASE",
    "3F000": "let the owner CREATE SCHEMA, or ALTER ROLE … SET search_path to one that exists",
    "42501": "let the owner grant that privilege to this user",
    "25006": "name the server that writes",
}
_AT_LOGIN: Final = (
    (re.compile(r"starting up|shutting down|recovery|not yet accepting|too many|remaining connection slots"), "57P03"),
    (re.compile(r"password authentication failed|no password supplied|authentication failed"), "28P01"),
    (re.compile(r"database .* does not exist"), "3D000"),
    (re.compile(r"permission denied for database"), "42501"),
    (re.compile(r"FATAL"), "28000"),
)
"""What a refused login says: its code does not come through the driver."""
_ENCRYPTION: Final = "correct sslmode, sslrootcert, sslcert and sslkey in the URL, or the server's certificate"
_UNSAID: Final = (
    ("invalid response to SSL", "correct the port in the URL: what answers there is no PostgreSQL"),
    *((word, _ENCRYPTION) for word in ("SSL", "sslmode", "certificate", "private key")),
)
"""What helps against errors of the driver's own, by what they say."""
_SETTINGS: Final = (
    f"SET lock_timeout = '{LOCK_SECONDS}s'; SET statement_timeout = 0; "
    f"SET idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'; "
    "SET TimeZone = 'UTC'; SET default_transaction_isolation = 'read committed'"
)
_EXAMINED: Final = (
    "SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), current_setting('default_transaction_read_only'), "
    "current_setting('synchronous_commit'), current_setting('server_version'), current_setting('server_encoding')"
)
_LOOKED_AT: Final = (
    "SELECT pg_is_in_recovery(), pg_encoding_to_char(encoding), current_schema(), "
    "has_schema_privilege(current_schema(), 'CREATE'), (SELECT bool_and(has_table_privilege(t, p)) "
    "FROM to_regclass('callboard_marks') AS t, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS p) "
    "FROM pg_database WHERE datname = current_database()"
)


class PostgreSql:
    """See `products.Product`."""

    name = "postgresql"
    url = "postgresql+psycopg://"
    marks = (
        "CREATE TABLE IF NOT EXISTS callboard_marks (writer bytea NOT NULL PRIMARY KEY, number bigint NOT NULL, "
        "used_at timestamptz NOT NULL DEFAULT now()) WITH (fillfactor = 50)"
    )

    def __init__(self, given: address.Address) -> None:
        self._given = given

    def engine_options(self) -> dict[str, Any]:
        return {"use_native_hstore": False}

    def greets(self, host: urls.Host, seconds: float) -> bool:
        return sockets.answers(host, _SSL_REQUEST, seconds)

    def alive(self, host: urls.Host) -> bool:
        return sockets.answers(host, _SSL_REQUEST, lookout.PROBE_SECONDS)

    def connect(self, host: urls.Host) -> Any:
        given = self._given
        encryption: dict[str, Any] = dict(given.options)
        raw = psycopg.connect(
            host=host[0],
            port=host[1],
            user=given.user or None,
            password=given.password or None,
            dbname=given.name,
            connect_timeout=CONNECT_SECONDS,
            client_encoding="utf8",
            application_name=f"callboard-{os.urandom(12).hex()}",  # The token: see there.
            prepare_threshold=3,
            **encryption,
        )
        raw.prepared_max = 200
        return raw

    def examine(self, raw: Any) -> products.Server:
        number, recovering, read_only, synchronous, version, encoding = raw.execute(_EXAMINED).fetchone()
        unfit = postgresql_fitness.unfit(number, version, recovering, read_only == "on", encoding)
        return products.Server(version=f"PostgreSQL {version}", unfit=unfit, forgetful=synchronous == "off")

    def prepare(self, raw: Any, server: products.Server) -> None:
        raw.execute(_SETTINGS + ("; SET synchronous_commit = 'on'" if server.forgetful else ""))
        raw.commit()

    def take_over(self, raw: Any) -> None:
        raw.autocommit = True

    def token(self, raw: Any) -> str:
        return str(raw.info.get_parameters().get("application_name", ""))

    def end(self, raw: Any, token: str) -> None:
        raw.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s AND usename = current_user",
            (token,),
        )

    def descriptor(self, raw: Any) -> int:
        return int(raw.fileno())

    def begin(self, raw: Any, writer: bytes, number: int) -> bool:
        text = b"BEGIN; UPDATE callboard_marks SET number = number + 2, used_at = now() WHERE writer = '\\x%b' AND number = %d"
        result = _run(raw, text % (writer.hex().encode(), number))
        return bool(result.command_tuples == 1)

    def begin_plain(self, raw: Any) -> None:
        _run(raw, b"BEGIN")

    def begin_reading(self, raw: Any) -> None:
        _run(raw, b"BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")

    def commit(self, raw: Any) -> None:
        _run(raw, b"COMMIT")

    def check_commit(self, raw: Any) -> None:
        if raw.pgconn.transaction_status == pq.TransactionStatus.INERROR:
            raise psycopg.errors.InFailedSqlTransaction("a statement failed, and the work went on as if it had not")

    def make_mark(self, on: sa.Connection, writer: bytes) -> int:
        upsert = (
            "INSERT INTO callboard_marks (writer, number) VALUES (%s, 0) "
            "ON CONFLICT (writer) DO UPDATE SET number = callboard_marks.number + 1 RETURNING number"
        )
        return int(on.exec_driver_sql(upsert, (writer,)).scalar_one())

    def old_marks(self, on: sa.Connection) -> list[bytes]:
        old = "SELECT writer FROM callboard_marks WHERE used_at < now() - INTERVAL '1 day' LIMIT 1000"
        return list(on.exec_driver_sql(old).scalars())

    def open_end(self, error: BaseException) -> bool:
        state = _state(error)
        return state == "" or state[:2] in ("08", "57") or state in ("40003", "XX000", "58030")

    def means(self, error: BaseException) -> Means:
        state = _state(error)
        if state:
            return _MEANS.get(state) or _CLASSES.get(state[:2], Means.BUG)
        return Means.LOST if isinstance(error, psycopg.OperationalError) else Means.BUG

    def told(self, error: BaseException) -> str:
        if _state(error) == "55P03":
            return "waited too long for a lock that another transaction holds"
        diag = getattr(error, "diag", None)
        words = (diag.message_primary if diag else None) or str(error).rpartition("failed: ")[2]
        return " ".join(words.rpartition("FATAL:")[2].strip().partition("\n")[0].split())

    def mend(self, error: BaseException) -> str:
        if _state(error):
            return _MENDS.get(_state(error), "")
        return next((mend for said, mend in _UNSAID if said in str(error)), "")

    def findings(self, on: sa.Connection, server: products.Server) -> list[products.Finding]:
        said = {name: value for name, value in on.exec_driver_sql("SELECT name, coalesce(reset_val, setting) FROM pg_settings")}
        recovering, encoding, schema, may_create, may_work = on.exec_driver_sql(_LOOKED_AT).one()
        return postgresql_fitness.findings(said, recovering, encoding, bool(may_create), schema or "", may_work)


def _state(error: BaseException) -> str:
    """The SQLSTATE, found in the words where the driver has none; empty when the server said nothing."""
    if state := getattr(error, "sqlstate", None):
        return str(state)
    words = str(error)
    return next((state for said, state in _AT_LOGIN if said.search(words)), "") if "FATAL" in words else ""


def _run(raw: Any, text: bytes) -> Any:
    """Run text without parameters, below the driver's cursors: it is the same at every transaction."""
    result = raw.pgconn.exec_(text)
    if result.status in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
        return result
    if result.error_field(pq.DiagnosticField.SQLSTATE) is None:
        raise psycopg.OperationalError(result.get_error_message())
    raise psycopg.errors.error_from_result(result)
