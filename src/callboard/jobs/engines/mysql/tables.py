"""The tables on MySQL 8 and MariaDB, one statement each; they may be run again after a part of them was."""

from __future__ import annotations

from typing import Final

_NAME: Final = "CHARACTER SET ascii COLLATE ascii_bin"


def _table(name: str, columns: str, row_format: str = "DYNAMIC") -> str:
    return (
        f"CREATE TABLE IF NOT EXISTS callboard_{name}({columns}) ENGINE=InnoDB ROW_FORMAT={row_format}"
        " DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    )


TABLES: Final = (
    _table("store", "id INT NOT NULL PRIMARY KEY, version INT NOT NULL, min_reader INT NOT NULL, touched BIGINT NOT NULL"),
    _table("domains", f"domain INT NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARCHAR(253) {_NAME} NOT NULL UNIQUE"),
    _table(
        "routes",
        f"route INT NOT NULL AUTO_INCREMENT PRIMARY KEY, domain INT NOT NULL, queue VARCHAR(63) {_NAME} NOT NULL,"
        f" lane SMALLINT NOT NULL, kind VARCHAR(128) {_NAME} NOT NULL, version INT NOT NULL,"
        " UNIQUE KEY name (domain, queue, lane, kind, version)",
    ),
    _table(
        "counts",
        "route INT NOT NULL, state SMALLINT NOT NULL, slot INT NOT NULL, jobs BIGINT NOT NULL, PRIMARY KEY (route, state, slot)",
    ),
    _table(
        "jobs",
        "seq BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, domain INT NOT NULL, id BINARY(16) NOT NULL, route INT NOT NULL,"
        " state SMALLINT NOT NULL DEFAULT 2, sort BIGINT NOT NULL, priority SMALLINT NOT NULL DEFAULT 5,"
        " run_at BIGINT NOT NULL, fence BIGINT NOT NULL DEFAULT 0, run INT NOT NULL DEFAULT 1,"
        " attempts INT NOT NULL DEFAULT 0, max_attempts INT NOT NULL DEFAULT 3, deaths INT NOT NULL DEFAULT 0,"
        " node BINARY(16) NULL, cancel_requested SMALLINT NOT NULL DEFAULT 0, codec SMALLINT NOT NULL DEFAULT 1,"
        " digest VARBINARY(16) NOT NULL, args MEDIUMBLOB NOT NULL, tags TEXT NULL, meta MEDIUMTEXT NULL,"
        " backoff BIGINT NOT NULL DEFAULT 1000000, timeout BIGINT NULL, submitted_at BIGINT NOT NULL,"
        " started_at BIGINT NULL, finished_at BIGINT NULL, result MEDIUMBLOB NULL, reason VARCHAR(64) NULL,"
        " progress MEDIUMTEXT NULL,"
        " UNIQUE KEY identity (domain, id), KEY place (state, route, sort, seq)",
        # A NULL takes as much room as a value: what a claim and its end write fits where the row is, in half the time.
        row_format="REDUNDANT",
    ),
    # The tag as bytes: collations that both products have take "a" and "a " for one.
    _table(
        "tags",
        "domain INT NOT NULL, tag VARBINARY(256) NOT NULL, id BINARY(16) NOT NULL, PRIMARY KEY (domain, tag, id)",
    ),
    _table(
        "errors",
        "domain INT NOT NULL, id BINARY(16) NOT NULL, run INT NOT NULL, fence BIGINT NOT NULL, attempt INT NOT NULL,"
        " code VARCHAR(255) NOT NULL, type BLOB NOT NULL, message MEDIUMBLOB NOT NULL, traceback MEDIUMBLOB NOT NULL,"
        " at BIGINT NOT NULL, node VARBINARY(16) NULL, PRIMARY KEY (domain, id, run, fence)",
    ),
    _table("nodes", "node VARBINARY(16) NOT NULL PRIMARY KEY, renewed_at BIGINT NOT NULL"),
    _table(
        "documents",
        "domain INT NOT NULL, path VARCHAR(255) NOT NULL, version BIGINT NOT NULL, body LONGBLOB NULL,"
        " PRIMARY KEY (domain, path)",
    ),
)

DEFAULTS: Final = {"state": 2, "priority": 5, "fence": 0, "run": 1, "max_attempts": 3, "codec": 1, "backoff": 1_000_000} | {
    name: None for name in ("tags", "meta", "timeout", "node", "started_at")
}
"""What the table itself says of columns: where all rows agree with it, nothing is sent. Each value costs as much as a column."""
