"""The limit of MariaDB and MySQL for Callboard's work: the same rows, the fewest and cheapest statements, no Callboard.

Statements are texts made here, as the driver would make them, but faster. Found by measuring: a claim reads its candidates
without locks, then locks them by their primary key, because a locking read of the index of what is ready stops at every
entry that former claims have left there; that index is over a virtual column, so that the end of a claim need not touch it.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Final

import MySQLdb
from MySQLdb.constants import CLIENT

from callboard.cli.bench import raw
from callboard.databases import address

FAILURES: Final = MySQLdb.Error
TABLE: Final = """
CREATE TABLE bench_raw(
  seq BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, domain INT NOT NULL, id BINARY(16) NOT NULL, route INT NOT NULL,
  state SMALLINT NOT NULL, sort BIGINT NOT NULL, priority SMALLINT NOT NULL, run_at BIGINT NOT NULL, fence BIGINT NOT NULL,
  run INT NOT NULL, attempts INT NOT NULL DEFAULT 0, max_attempts INT NOT NULL, deaths INT NOT NULL DEFAULT 0,
  node VARBINARY(16), cancel_requested SMALLINT NOT NULL DEFAULT 0, codec SMALLINT NOT NULL, digest VARBINARY(16) NOT NULL,
  args MEDIUMBLOB NOT NULL, tags TEXT, meta TEXT, backoff BIGINT NOT NULL, timeout BIGINT, submitted_at BIGINT NOT NULL,
  started_at BIGINT, finished_at BIGINT, result MEDIUMBLOB, reason VARCHAR(64), progress TEXT,
  ready BIGINT AS (CASE WHEN state = 2 THEN sort END) VIRTUAL,
  UNIQUE KEY identity(domain, id), KEY place(route, ready, seq)) ENGINE = InnoDB
"""
_NEAR: Final = 3
"""How many times as many candidates as wanted are read: another one may hold the first of them."""
_READY: Final = "SELECT seq FROM bench_raw FORCE INDEX(place) WHERE route = 1 AND ready IS NOT NULL ORDER BY ready, seq LIMIT"


class Hand:
    """One connection; see `raw.Hand`."""

    def __init__(self, url: str, host: int = 0) -> None:
        self._db = connect(url, host)
        self._query = self._db.query
        self._query("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        self._node = os.urandom(16).hex()

    def create(self) -> None:
        self._query("DROP TABLE IF EXISTS bench_raw")
        self._query(TABLE)

    def insert(self, jobs: int) -> None:
        now = time.time_ns() // 1000
        place = (raw.PRIORITY << 56) + now
        rest = f"1, 2, {place}, 5, {now}, 0, 1, 1, 1, 0x{raw.DIGEST.hex()}, 0x{raw.ARGS.hex()}, NULL, NULL, 1000000, NULL, {now})"
        rows = ",".join([f"(1, 0x{id.hex()}, {rest}" for id in raw.ids(jobs)])
        self._query(f"INSERT INTO bench_raw({raw.INSERTED}) VALUES {rows}")

    def claim(self, limit: int) -> list[Any]:
        return self.turn([], limit)

    def end(self, claims: list[Any]) -> int:
        if not claims:
            return 0
        now = time.time_ns() // 1000
        results = " ".join([f"WHEN {seq} THEN 0x{number & 127:02x}" for number, (seq, _) in enumerate(claims)])
        fences = " ".join([f"WHEN {seq} THEN {fence}" for seq, fence in claims])
        seqs = ",".join([str(seq) for seq, _ in claims])
        self._query(
            f"UPDATE bench_raw SET state = 6, sort = {now}, run_at = {now}, attempts = 1, deaths = 0, finished_at = {now},"
            f" result = CASE seq {results} END, reason = NULL, node = NULL WHERE seq IN ({seqs})"
            f" AND fence = CASE seq {fences} END AND node = 0x{self._node} AND state = 3 AND cancel_requested = 0"
        )
        return int(self._db.affected_rows())

    def turn(self, claims: list[Any], limit: int) -> list[Any]:
        self._query("START TRANSACTION")
        self.end(claims)
        claimed = self._claim(limit)
        self._query("COMMIT")
        return claimed

    def finished(self) -> int:
        ((jobs,),) = self._rows("SELECT COALESCE(SUM(jobs), 0) FROM callboard_counts WHERE state >= 6")
        return int(jobs)

    def close(self) -> None:
        self._db.close()

    def _rows(self, query: str) -> tuple[tuple[Any, ...], ...]:
        self._query(query)
        rows: tuple[tuple[Any, ...], ...] = self._db.store_result().fetch_row(0)
        return rows

    def _claim(self, limit: int) -> list[Any]:
        near = [str(seq) for (seq,) in self._rows(f"{_READY} {_NEAR * limit}")]
        rows: list[tuple[Any, ...]] = []
        start = 0
        while start < len(near) and len(rows) < limit:
            among = near[start : start + limit - len(rows)]
            start += len(among)
            rows += self._rows(
                f"SELECT {raw.CLAIMED} FROM bench_raw WHERE seq IN ({','.join(among)}) AND state = 2 FOR UPDATE SKIP LOCKED"
            )
        if rows:
            now = time.time_ns() // 1000
            seqs = ",".join([str(row[0]) for row in rows])
            self._query(
                f"UPDATE bench_raw SET state = 3, fence = fence + 1, node = 0x{self._node}, started_at = {now}, progress = NULL,"
                f" reason = NULL WHERE seq IN ({seqs})"
            )
        return [(row[0], row[6] + 1) for row in rows]


def connect(url: str, host: int = 0) -> Any:
    """Return a connection of the driver to one of the hosts, which commits each statement that stands alone."""
    at = address.parsed(url)
    name, port = at.hosts[host]
    flag = CLIENT.FOUND_ROWS
    return MySQLdb.connect(
        host=name, port=port, user=at.user, passwd=at.password, db=at.name, client_flag=flag, connect_timeout=1, autocommit=True
    )


def statuses(url: str) -> list[dict[str, int]]:
    """Return the numbers of SHOW GLOBAL STATUS LIKE 'wsrep%' of each host."""
    found = []
    for host in range(len(address.parsed(url).hosts)):
        with contextlib.closing(connect(url, host)) as db:
            db.query("SHOW GLOBAL STATUS LIKE 'wsrep%'")
            rows = db.store_result().fetch_row(0)
        found.append({_text(name): int(value) for name, value in rows if value.isdigit()})
    return found


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
