"""The limit of MariaDB and MySQL for Callboard's work: the same rows, the fewest and cheapest statements, no Callboard.

Statements are texts made here, as the driver would make them, but faster. Found by measuring: a claim reads its candidates
without locks, and locks them by their primary key in the same statement, because a locking read of the index of what is ready
stops at every entry that former claims have left there; that index is over a virtual column, so that the end of a claim need
not touch it; in the row format chosen a NULL takes as much room as a value, so that rows change where they are; values that are
defaults are not sent, rows that follow each other are named as a range, and have their own values by their rank in it.
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
  state SMALLINT NOT NULL DEFAULT 2, sort BIGINT NOT NULL, priority SMALLINT NOT NULL DEFAULT 5, run_at BIGINT NOT NULL,
  fence BIGINT NOT NULL DEFAULT 0, run INT NOT NULL DEFAULT 1, attempts INT NOT NULL DEFAULT 0,
  max_attempts INT NOT NULL DEFAULT 1, deaths INT NOT NULL DEFAULT 0, node BINARY(16),
  cancel_requested SMALLINT NOT NULL DEFAULT 0, codec SMALLINT NOT NULL DEFAULT 1, digest VARBINARY(16) NOT NULL,
  args MEDIUMBLOB NOT NULL, tags TEXT, meta TEXT, backoff BIGINT NOT NULL DEFAULT 1000000, timeout BIGINT,
  submitted_at BIGINT NOT NULL, started_at BIGINT, finished_at BIGINT, result MEDIUMBLOB, reason VARCHAR(64), progress TEXT,
  ready BIGINT AS (CASE WHEN state = 2 THEN sort END) VIRTUAL,
  UNIQUE KEY identity(domain, id), KEY place(route, ready, seq)) ENGINE = InnoDB ROW_FORMAT = REDUNDANT
"""
_WIDER: Final = 4
"""How many times as many candidates are read where another one holds the first of them."""
_LOOK: Final = "SELECT seq FROM bench_raw FORCE INDEX(place) WHERE route = 1 AND ready IS NOT NULL ORDER BY ready, seq LIMIT {:d}"
_TAKE: Final = (
    f"SELECT {', '.join('j.' + each.strip() for each in raw.CLAIMED.split(','))} FROM ({_LOOK}) AS look STRAIGHT_JOIN"
    " bench_raw AS j FORCE INDEX(PRIMARY) ON j.seq = look.seq WHERE j.state = 2 {}LIMIT {:d} FOR UPDATE SKIP LOCKED"
)


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
        rest = f",1,{place},{now},0x{raw.DIGEST.hex()},0x{raw.ARGS.hex()},{now})"
        rows = ",".join([f"(1,0x{id.hex()}{rest}" for id in raw.ids(jobs)])
        self._query(f"INSERT INTO bench_raw(domain,id,route,sort,run_at,digest,args,submitted_at) VALUES {rows}")

    def claim(self, limit: int) -> list[Any]:
        return self.turn([], limit)

    def end(self, claims: list[Any]) -> int:
        if not claims:
            return 0
        now = time.time_ns() // 1000
        claims = sorted(claims)
        seqs = [seq for seq, _ in claims]
        result = _own(seqs, [f"0x{number & 127:02x}" for number in range(len(claims))])
        fence = claims[0][1] if len({fence for _, fence in claims}) == 1 else _own(seqs, [str(fence) for _, fence in claims])
        self._query(
            f"UPDATE bench_raw FORCE INDEX(PRIMARY) SET state = 6, sort = {now}, run_at = {now}, attempts = 1, deaths = 0,"
            f" finished_at = {now}, result = {result}, reason = NULL, node = NULL WHERE {_among(seqs)} AND fence = {fence}"
            f" AND node = 0x{self._node} AND state = 3 AND cancel_requested = 0"
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
        rows: list[tuple[Any, ...]] = []
        look = limit
        while True:
            had = f"AND j.seq NOT IN ({','.join([str(row[0]) for row in rows])}) " if rows else ""
            rows += self._rows(_TAKE.format(look, had, limit - len(rows)))
            if len(rows) == limit or len(self._rows(_LOOK.format(look))) < look:
                break
            look *= _WIDER
        if rows:
            now = time.time_ns() // 1000
            self._query(
                f"UPDATE bench_raw FORCE INDEX(PRIMARY) SET state = 3, fence = fence + 1, node = 0x{self._node},"
                f" started_at = {now}, progress = NULL, reason = NULL WHERE {_among(sorted(row[0] for row in rows))}"
            )
        return [(row[0], row[6] + 1) for row in rows]


def _among(seqs: list[int]) -> str:
    """Return the condition that a row is one of these, which grow."""
    if seqs[-1] - seqs[0] == len(seqs) - 1:
        return f"seq BETWEEN {seqs[0]} AND {seqs[-1]}"
    return f"seq IN ({','.join(map(str, seqs))})"


def _own(seqs: list[int], literals: list[str]) -> str:
    """Return the expression for a row's own literal, by its rank."""
    rank = f"seq - {seqs[0] - 1}" if seqs[-1] - seqs[0] == len(seqs) - 1 else f"INTERVAL(seq,{','.join(map(str, seqs))})"
    return f"ELT({rank},{','.join(literals)})"


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
