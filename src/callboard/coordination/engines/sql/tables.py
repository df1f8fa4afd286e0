"""The tables of coordination, and the few words in which the products differ.

callboard_coordination has one row. Whoever changes entries or sessions holds its lock and writes it: changes are one after
the other, their numbers grow, and on a Galera cluster those of two nodes conflict. `number` is the last one given, `changes`
counts changes; callboard_folders says by which of them each folder changed last.
"""

from __future__ import annotations

import random
import time
from typing import Final

import msgspec
import sqlalchemy as sa
from sqlalchemy import exc

from callboard import errors
from callboard.databases import database as databases
from callboard.databases import line as lines

VERSION: Final = 1
"""Of the tables. The row says who can read them: `min_reader`."""
IDLE_SECONDS: Final = 2
"""After which the server ends the connection of a process that was frozen or cut off, and with it its hold on rows."""
PATIENCE_SECONDS: Final = 1
"""For which a change waits for its turn. MySQL 8 waits until the server ends the connection of whoever is in the way."""
_TRIES: Final = 40
_PAUSE_SECONDS: Final = 0.1


class Words(msgspec.Struct, frozen=True):
    """A product's own words."""

    tables: tuple[str, ...]
    """Statements that create the tables unless they exist."""
    session: str
    """Run on each connection: the server ends it when it says nothing for IDLE_SECONDS in the midst of a transaction. MySQL 8
    knows only silence as such; sessions look more often than that."""
    patience: str = ""
    """Said before WAIT, where that does not say itself how long it waits."""


_ROW: Final = "SELECT number, changes FROM callboard_coordination WHERE id = 1 FOR UPDATE"
LOCK: Final = f"{_ROW} SKIP LOCKED"
"""Locks the one row and returns it; no row when somebody else holds the lock."""
WAIT: Final = f"{_ROW} /*M! WAIT {PATIENCE_SECONDS} */"
"""The same, but it waits for its turn; an error after PATIENCE_SECONDS. (MariaDB reads such comments.)"""
_MYSQL_ASCII: Final = "CHARACTER SET ascii COLLATE ascii_bin"
MYSQL: Final = Words(
    (
        "CREATE TABLE IF NOT EXISTS callboard_coordination (id TINYINT NOT NULL PRIMARY KEY, version INT NOT NULL,"
        " min_reader INT NOT NULL, number BIGINT NOT NULL, changes BIGINT NOT NULL) ENGINE=InnoDB",
        f"CREATE TABLE IF NOT EXISTS callboard_sessions (name VARCHAR(128) {_MYSQL_ASCII} NOT NULL PRIMARY KEY,"
        " token BINARY(16) NOT NULL, beat BIGINT NOT NULL, granted_ms BIGINT NOT NULL) ENGINE=InnoDB",
        f"CREATE TABLE IF NOT EXISTS callboard_folders (folder VARCHAR(64) {_MYSQL_ASCII} NOT NULL PRIMARY KEY,"
        " changes BIGINT NOT NULL) ENGINE=InnoDB",
        f"CREATE TABLE IF NOT EXISTS callboard_entries (path VARCHAR(320) {_MYSQL_ASCII} NOT NULL PRIMARY KEY,"
        f" folder VARCHAR(64) {_MYSQL_ASCII} NOT NULL, body MEDIUMBLOB NOT NULL, number BIGINT NOT NULL,"
        f" session VARCHAR(128) {_MYSQL_ASCII} NULL, KEY folder (folder), KEY session (session)) ENGINE=InnoDB",
        f"INSERT IGNORE INTO callboard_coordination VALUES (1, {VERSION}, {VERSION}, 0, 0)",
    ),
    f"SET SESSION /*M! idle_transaction_timeout = {IDLE_SECONDS}, */ wait_timeout = {IDLE_SECONDS}",
)
POSTGRESQL: Final = Words(
    (
        "CREATE TABLE IF NOT EXISTS callboard_coordination (id SMALLINT PRIMARY KEY, version INTEGER NOT NULL,"
        " min_reader INTEGER NOT NULL, number BIGINT NOT NULL, changes BIGINT NOT NULL)",
        'CREATE TABLE IF NOT EXISTS callboard_sessions (name VARCHAR(128) COLLATE "C" PRIMARY KEY,'
        " token BYTEA NOT NULL, beat BIGINT NOT NULL, granted_ms BIGINT NOT NULL)",
        'CREATE TABLE IF NOT EXISTS callboard_folders (folder VARCHAR(64) COLLATE "C" PRIMARY KEY, changes BIGINT NOT NULL)',
        'CREATE TABLE IF NOT EXISTS callboard_entries (path VARCHAR(320) COLLATE "C" PRIMARY KEY,'
        ' folder VARCHAR(64) COLLATE "C" NOT NULL, body BYTEA NOT NULL, number BIGINT NOT NULL,'
        ' session VARCHAR(128) COLLATE "C" NULL)',
        "CREATE INDEX IF NOT EXISTS callboard_entries_folder ON callboard_entries (folder)",
        "CREATE INDEX IF NOT EXISTS callboard_entries_session ON callboard_entries (session)",
        f"INSERT INTO callboard_coordination VALUES (1, {VERSION}, {VERSION}, 0, 0) ON CONFLICT DO NOTHING",
    ),
    f"SET idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'",
    patience=f"SET LOCAL lock_timeout = '{PATIENCE_SECONDS}s'",
)
WORDS: Final = {"mysql": MYSQL, "postgresql": POSTGRESQL}


def ensure(line: lines.Line, words: Words) -> None:
    """Make the tables unless they are there. Raises StoreError, DataUnusable; others may do the same at the same time."""
    for _ in range(_TRIES):
        version = _version(line)
        if version is not None:
            break
        _make(line.database, words)
    else:
        raise errors.StoreUnavailable(
            f"{line.database.address.shown}: the tables of coordination cannot be made: see the server's log"
        )
    if version > VERSION:
        why = f"are for version {version} or later, this Callboard reads {VERSION}"
        raise errors.DataUnusable(f"the tables of coordination in {line.database.address.shown} {why}: use the newer release")


def _version(line: lines.Line) -> int | None:
    """Return which version reads the tables; None where there are none."""

    def read(on: sa.Connection) -> int | None:
        row = on.exec_driver_sql("SELECT min_reader FROM callboard_coordination WHERE id = 1").first()
        return row[0] if row is not None else None

    try:
        return line.read(read)
    except exc.DBAPIError:
        return None


def _make(database: databases.Database, words: Words) -> None:
    try:
        with database.visit() as on:
            for statement in words.tables:
                on.exec_driver_sql(statement)
            on.commit()
    except exc.DBAPIError as error:
        found = database.translated(error.orig or error)
        if isinstance(found, errors.StoreRefused | errors.StoreUnfit):
            raise found from None
        time.sleep(random.uniform(0, _PAUSE_SECONDS))  # Somebody else makes them as well.
