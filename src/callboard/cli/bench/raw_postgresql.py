"""The limit of PostgreSQL for Callboard's work: the same rows and indexes, the fewest and cheapest statements, no Callboard.

Rows travel as arrays, which was as fast as COPY, and claims come back from their UPDATE.
"""

from __future__ import annotations

import os
import time
from typing import Any, Final

import psycopg

from callboard.cli.bench import raw
from callboard.databases import address

FAILURES: Final = psycopg.Error
TABLE: Final = """
CREATE TABLE bench_raw(
  seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, domain INT NOT NULL, id BYTEA NOT NULL, route INT NOT NULL,
  state SMALLINT NOT NULL, sort BIGINT NOT NULL, priority SMALLINT NOT NULL, run_at BIGINT NOT NULL, fence BIGINT NOT NULL,
  run INT NOT NULL, attempts INT NOT NULL DEFAULT 0, max_attempts INT NOT NULL, deaths INT NOT NULL DEFAULT 0, node BYTEA,
  cancel_requested SMALLINT NOT NULL DEFAULT 0, codec SMALLINT NOT NULL, digest BYTEA NOT NULL, args BYTEA NOT NULL, tags TEXT,
  meta TEXT, backoff BIGINT NOT NULL, timeout BIGINT, submitted_at BIGINT NOT NULL, started_at BIGINT, finished_at BIGINT,
  result BYTEA, reason VARCHAR(64), progress TEXT);
CREATE UNIQUE INDEX bench_raw_identity ON bench_raw(domain, id);
CREATE INDEX bench_raw_place ON bench_raw(route, sort, seq) WHERE state = 2
"""
_PLANS: Final = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET synchronous_commit = on"
"""A table that has just been filled has no statistics: without this some plans read all of it for each batch."""
_INSERT: Final = (
    f"INSERT INTO bench_raw({raw.INSERTED}) SELECT 1, id, 1, 2, %b, 5, %b, 0, 1, 1, 1, digest, args, NULL, NULL, 1000000, NULL,"
    " %b FROM unnest(%b::bytea[], %b::bytea[], %b::bytea[]) AS v(id, digest, args)"
)
_CLAIM: Final = (
    "UPDATE bench_raw AS j SET state = 3, fence = fence + 1, node = %b, started_at = %b, progress = NULL, reason = NULL FROM"
    " (SELECT seq FROM bench_raw WHERE state = 2 AND route = 1 ORDER BY sort, seq LIMIT %b FOR UPDATE SKIP LOCKED) AS v"
    f" WHERE j.seq = v.seq RETURNING {', '.join('j.' + each.strip() for each in raw.CLAIMED.split(','))}"
)
_END: Final = (
    "UPDATE bench_raw AS j SET state = 6, sort = v.at, run_at = v.at, attempts = 1, deaths = 0, finished_at = v.at,"
    " result = v.result, reason = NULL, node = NULL FROM unnest(%b::bigint[], %b::bigint[], %b::bigint[], %b::bytea[])"
    " AS v(seq, fence, at, result) WHERE j.seq = v.seq AND j.fence = v.fence AND j.node = %b AND j.state = 3"
    " AND j.cancel_requested = 0"
)


class Hand:
    """One connection; see `raw.Hand`."""

    def __init__(self, url: str, host: int = 0) -> None:
        at = address.parsed(url)
        name, port = at.hosts[host]
        login: dict[str, Any] = {"user": at.user, "password": at.password, "dbname": at.name}
        self._db = psycopg.connect(host=name, port=port, **login, autocommit=True, prepare_threshold=1, connect_timeout=2)
        self._db.execute(_PLANS)
        self._cursor = self._db.cursor(binary=True)
        self._node = os.urandom(16)

    def create(self) -> None:
        self._db.execute("DROP TABLE IF EXISTS bench_raw")
        self._db.execute(TABLE)

    def insert(self, jobs: int) -> None:
        now = time.time_ns() // 1000
        place = (raw.PRIORITY << 56) + now
        self._cursor.execute(_INSERT, (place, now, now, raw.ids(jobs), [raw.DIGEST] * jobs, [raw.ARGS] * jobs))

    def claim(self, limit: int) -> list[Any]:
        rows = self._cursor.execute(_CLAIM, (self._node, time.time_ns() // 1000, limit)).fetchall()
        return [(row[0], row[6]) for row in rows]

    def end(self, claims: list[Any]) -> int:
        if not claims:
            return 0
        seqs, fences = [seq for seq, _ in claims], [fence for _, fence in claims]
        results = [bytes([number & 127]) for number in range(len(claims))]
        times = [time.time_ns() // 1000] * len(claims)
        return self._cursor.execute(_END, (seqs, fences, times, results, self._node)).rowcount

    def turn(self, claims: list[Any], limit: int) -> list[Any]:
        with self._db.transaction():
            self.end(claims)
            return self.claim(limit)

    def finished(self) -> int:
        row = self._db.execute("SELECT COALESCE(SUM(jobs), 0) FROM callboard_counts WHERE state >= 6").fetchone()
        return int(row[0]) if row else 0

    def close(self) -> None:
        self._db.close()
