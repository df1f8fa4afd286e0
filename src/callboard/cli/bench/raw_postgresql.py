"""The limit of PostgreSQL for Callboard's work: the same rows and indexes, the fewest and cheapest statements, no Callboard.

New rows are copied, in binary form; ends travel as arrays that are packed here, which is faster than the driver's way of
adapting each item; claims come back from their UPDATE. What can share a round trip does.
"""

from __future__ import annotations

import itertools
import os
import struct
import time
from collections.abc import Sequence
from typing import Any, Final

import psycopg
from psycopg import pq

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
_PLANS: Final = (
    "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;"
    " SET enable_material = off; SET enable_sort = off; SET jit = off; SET plan_cache_mode = force_generic_plan;"
    " SET synchronous_commit = on"
)
"""A table that has just been filled has no statistics: without this some plans read all of it for each batch."""
_INSERT: Final = f"COPY bench_raw({raw.INSERTED}) FROM STDIN (FORMAT BINARY)".encode()
_CLAIM: Final = (
    "UPDATE bench_raw SET state = 3, fence = fence + 1, node = $1, started_at = $2, progress = NULL, reason = NULL WHERE"
    " ctid = ANY(ARRAY(SELECT ctid FROM bench_raw WHERE state = 2 AND route = 1 ORDER BY sort, seq LIMIT $3"
    f" FOR UPDATE SKIP LOCKED)) RETURNING {raw.CLAIMED}"
)
_END: Final = (
    "UPDATE bench_raw AS j SET state = 6, sort = $1, run_at = $1, attempts = 1, deaths = 0, finished_at = $1,"
    " result = v.result, reason = NULL, node = NULL FROM unnest($2::bigint[], $3::bigint[], $4::bytea[]) AS v(seq, fence, result)"
    " WHERE j.seq = v.seq AND j.fence = v.fence AND j.node IS NOT DISTINCT FROM $5 AND +j.state = 3 AND +j.cancel_requested = 0"
)
_COPY_HEAD: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_NULL: Final = struct.pack(">i", -1)
_COPY_END: Final = b"\xff\xff"
_END_TYPES: Final = (20, 1016, 1016, 1001, 17)
"""bigint, two arrays of it, one of bytea, bytea: by their numbers."""


class Hand:
    """One connection; see `raw.Hand`."""

    def __init__(self, url: str, host: int = 0) -> None:
        at = address.parsed(url)
        name, port = at.hosts[host]
        login: dict[str, Any] = {"user": at.user, "password": at.password, "dbname": at.name}
        self._db = psycopg.connect(host=name, port=port, **login, autocommit=True, prepare_threshold=1, connect_timeout=2)
        self._db.execute(_PLANS)
        self._cursor: psycopg.RawCursor[tuple[Any, ...]] = psycopg.RawCursor(self._db)
        self._cursor.format = pq.Format.BINARY
        self._node = os.urandom(16)
        self._prepared = False

    def create(self) -> None:
        self._db.execute("DROP TABLE IF EXISTS bench_raw")
        self._db.execute(TABLE)

    def insert(self, jobs: int) -> None:
        now = time.time_ns() // 1000
        rest = _fields(("i", 1), ("h", 2), ("q", (raw.PRIORITY << 56) + now), ("h", raw.PRIORITY), ("q", now), ("q", 0), ("i", 1))
        rest += _fields(("i", 1), ("h", 1)) + _sized(raw.DIGEST) + _sized(raw.ARGS) + _NULL + _NULL
        rest += _fields(("q", 1_000_000)) + _NULL + _fields(("q", now))
        head = struct.pack(">hiii", 18, 4, 1, 16)
        connection = self._db.pgconn
        connection.send_query(_INSERT)
        while (result := connection.get_result()) is not None:
            if result.status == pq.ExecStatus.COPY_IN:
                connection.put_copy_data(b"".join([_COPY_HEAD, *[head + id + rest for id in raw.ids(jobs)], _COPY_END]))
                connection.put_copy_end()
            else:
                _check(result)

    def claim(self, limit: int) -> list[Any]:
        self._cursor.execute(_CLAIM, (self._node, time.time_ns() // 1000, limit), prepare=True)
        return [(row[0], row[6]) for row in self._cursor.fetchall()]

    def end(self, claims: list[Any]) -> int:
        if not claims:
            return 0
        seqs, fences = zip(*sorted(claims), strict=True)
        results = _array(17, b"".join([struct.pack(">iB", 1, number & 127) for number in range(len(claims))]), len(claims))
        values = [struct.pack(">q", time.time_ns() // 1000), _bigints(seqs), _bigints(fences), results, self._node]
        connection = self._db.pgconn
        if not self._prepared:
            _check(connection.prepare(b"bench_end", _END.encode(), _END_TYPES))
            self._prepared = True
        return _check(connection.exec_prepared(b"bench_end", values, [1] * len(values))).command_tuples or 0

    def turn(self, claims: list[Any], limit: int) -> list[Any]:
        _check(self._db.pgconn.exec_(b"BEGIN"))
        self.end(claims)
        claimed = self.claim(limit)
        _check(self._db.pgconn.exec_(b"COMMIT"))
        return claimed

    def finished(self) -> int:
        row = self._db.execute("SELECT COALESCE(SUM(jobs), 0) FROM callboard_counts WHERE state >= 6").fetchone()
        return int(row[0]) if row else 0

    def close(self) -> None:
        self._db.close()


def _check(result: Any) -> Any:
    """Return a result that is none of a failure."""
    if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
        raise psycopg.OperationalError(result.get_error_message())
    return result


def _fields(*fields: tuple[str, int]) -> bytes:
    """Return numbers as COPY takes them, each after its size."""
    return b"".join([struct.pack(f">i{form}", struct.calcsize(f">{form}"), value) for form, value in fields])


def _sized(value: bytes) -> bytes:
    return struct.pack(">i", len(value)) + value


def _array(item: int, packed: bytes, items: int) -> bytes:
    return struct.pack(">iiIii", 1, 0, item, items, 1) + packed


def _bigints(values: Sequence[int]) -> bytes:
    items = struct.pack(">" + "iq" * len(values), *itertools.chain.from_iterable(zip(itertools.repeat(8), values, strict=False)))
    return _array(20, items, len(values))
