"""PostgreSQL's statements for what is hot.

New jobs are copied. Ends travel as arrays, one a column, which `unnest` makes rows of again: one text for any number of rows, so
that it is prepared once. The texts leave the planner little to choose: on a table that fills and empties, its figures are wrong.
"""

from __future__ import annotations

import functools
import heapq
import operator
import select
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import psycopg
import sqlalchemy
from psycopg import errors, pq
from psycopg.pq import abc

from callboard.jobs.engines.postgresql import binary, tables
from callboard.jobs.engines.sql import schema

PIECE: Final = 4096
"""Chunks of rows (7 to 9 of each) joined before they are sent."""
MERGED: Final = 64
"""Routes whose jobs one statement merges."""
WIDER: Final = 8
"""Candidates looked at, for each that is wanted, where others hold the first ones."""

Row = tuple[Any, ...]
Arrays = Sequence[Callable[[Sequence[Any]], bytes]]

PLANNING: Final = "; ".join(
    (
        "SET plan_cache_mode = force_generic_plan",
        *(f"SET enable_{way} = off" for way in ("seqscan", "bitmapscan", "hashjoin", "mergejoin", "material", "sort")),
        "SET jit = off",
        "SET lock_timeout = '1s'",
    )
)
"""What a session says at its beginning. Plans are made once, maybe on an empty table: they must look by index from the start."""

_PUT: Final = {
    columns.count(",") + 1: f"SAVEPOINT put; COPY callboard_jobs({columns}) FROM STDIN (FORMAT BINARY); RELEASE SAVEPOINT put"
    for columns in (schema.INSERTED, schema.INSERTED_CLAIMED)
}
"""By the number of columns."""
_UNPUT: Final = b"ROLLBACK TO SAVEPOINT put; RELEASE SAVEPOINT put"
_TAKE: Final = (
    "UPDATE callboard_jobs SET state = 3, fence = fence + 1, node = $1, started_at = $2, progress = NULL, reason = NULL"
    f" WHERE ctid = ANY(ARRAY({{picked}})) RETURNING {schema.CLAIMED}"
)
"""By `ctid`, the place of the row version that the subquery locked."""
_CLAIM: Final = _TAKE.format(
    picked="SELECT ctid FROM callboard_jobs WHERE state = 2 AND route = $3 ORDER BY sort, seq LIMIT $4 FOR UPDATE SKIP LOCKED"
)
_HOLD: Final = _TAKE.format(
    picked="SELECT jobs.ctid FROM unnest($3::bigint[]) WITH ORDINALITY AS best(seq, place)"
    " JOIN callboard_jobs AS jobs ON jobs.seq = best.seq WHERE +jobs.state = 2 ORDER BY place LIMIT $4"
    " FOR UPDATE OF jobs SKIP LOCKED"
)
_PLACES: Final = "SELECT id, seq FROM callboard_jobs WHERE domain = $1 AND id = ANY($2::bytea[])"
_CLAIMED_ORDER: Final = operator.itemgetter(4, 5, 0)
_END: Final = (
    "UPDATE callboard_jobs AS jobs SET state = ends.state, sort = ends.sort, run_at = ends.run_at, attempts = ends.attempts,"
    " deaths = ends.deaths, finished_at = ends.finished_at, result = ends.result, reason = ends.reason, node = NULL,"
    " progress = CASE WHEN ends.state >= 6 THEN jobs.progress END"
    " FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::bigint[], $5::bigint[], $6::int[], $7::int[], $8::bigint[],"
    f" $9::bytea[], $10::text[]) AS ends({schema.ENDED})"
    " WHERE jobs.seq = ends.seq AND jobs.fence = ends.fence AND jobs.node IS NOT DISTINCT FROM $11 AND +jobs.state = 3"
    " AND +jobs.cancel_requested = 0"
)
"""`+` and IS NOT DISTINCT keep the planner from any way but by `seq`."""
_END_ARRAYS: Final[Arrays] = (
    binary.bigints,
    binary.bigints,
    binary.smallints,
    binary.bigints,
    binary.bigints,
    binary.ints,
    binary.ints,
    binary.bigints,
    binary.byteas,
    binary.texts,
)


class PostgreSql:
    """See `sql.dialect.Dialect`."""

    name = "postgresql"
    session = PLANNING
    tidy = tables.TIDY
    tables = tables.TABLES
    share = "FOR SHARE"
    turn = "LOCK TABLE callboard_documents IN EXCLUSIVE MODE"

    def put(self, on: sqlalchemy.Connection, rows: Sequence[Row]) -> bool:
        connection: abc.PGconn = _driven(on).pgconn
        if connection.transaction_status == pq.TransactionStatus.IDLE:
            on.exec_driver_sql("SELECT 1")  # Nothing was run yet that lets the driver begin a transaction.
        try:
            _copy(connection, rows)
        except errors.UniqueViolation:
            _raised(connection.exec_(_UNPUT))
            return False
        return True

    def places(self, on: sqlalchemy.Connection, domain: int, ids: Sequence[bytes]) -> Sequence[Row]:
        return _cursor(on).execute(_PLACES, (domain, binary.byteas(ids)), prepare=True).fetchall()

    def claim(self, on: sqlalchemy.Connection, routes: Sequence[int], limit: int, node: bytes, now: int) -> list[Row]:
        cursor = _cursor(on)
        if len(routes) == 1:
            return _taken(cursor, _CLAIM, node, now, routes[0], limit)
        taken: list[Row] = []
        looked = limit
        while len(taken) < limit:
            best = _best(cursor, routes, looked)
            if best:
                taken += _taken(cursor, _HOLD, node, now, binary.bigints(best), limit - len(taken))
            if len(best) < looked:
                break
            looked *= WIDER
        return sorted(taken, key=_CLAIMED_ORDER)

    def end(self, on: sqlalchemy.Connection, node: bytes, rows: Sequence[Row]) -> int:
        if not rows:
            return 0
        columns = zip(*sorted(rows, key=operator.itemgetter(0)), strict=True)
        values = [array(column) for array, column in zip(_END_ARRAYS, columns, strict=True)]
        return _cursor(on).execute(_END, [*values, node], prepare=True).rowcount

    def upsert(self, table: str, columns: Sequence[str], key: Sequence[str], changes: Mapping[str, str]) -> str:
        written = ", ".join(f"{column} = {text.format(new=f'excluded.{column}')}" for column, text in changes.items())
        return (
            f"INSERT INTO {table}({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))})"
            f" ON CONFLICT ({', '.join(key)}) DO {f'UPDATE SET {written}' if written else 'NOTHING'}"
        )


def _driven(on: sqlalchemy.Connection) -> Any:
    """Return the driver's connection."""
    return on.connection.driver_connection


def _cursor(on: sqlalchemy.Connection) -> psycopg.RawCursor[Row]:
    """Return a cursor of the driver's own: it keeps texts prepared, and takes and gives values in binary form."""
    cursor: psycopg.RawCursor[Row] = psycopg.RawCursor(_driven(on))
    cursor.format = pq.Format.BINARY
    return cursor


def _copy(connection: abc.PGconn, rows: Sequence[Row]) -> None:
    """Send new jobs: texts and rows in one go. The driver's own way has more round trips, and copies the rows once more."""
    columns = len(rows[0]) if rows else binary.UNCLAIMED
    chunks = binary.copied(rows, columns=columns)
    connection.send_query(_PUT[columns].encode())
    failed = None
    while (result := _result(connection)) is not None:
        if result.status == pq.ExecStatus.COPY_IN:
            for start in range(0, len(chunks), PIECE):
                connection.put_copy_data(b"".join(chunks[start : start + PIECE]))
            connection.put_copy_end()
        elif result.status != pq.ExecStatus.COMMAND_OK:
            failed = failed or result
    if failed is not None:
        _raised(failed)


def _result(connection: abc.PGconn) -> abc.PGresult | None:
    """Return the next result. It is waited for here: the driver would keep the interpreter's lock meanwhile."""
    poll = select.poll()
    while connection.flush():
        poll.register(connection.socket, select.POLLIN | select.POLLOUT)
        poll.poll()
        connection.consume_input()
    poll.register(connection.socket, select.POLLIN)
    while connection.is_busy():
        poll.poll()
        connection.consume_input()
    return connection.get_result()


def _raised(result: abc.PGresult) -> None:
    """Raise what a result tells of, as the driver does."""
    if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
        if result.error_field(pq.DiagnosticField.SQLSTATE) is None:
            raise psycopg.OperationalError(result.get_error_message())
        raise errors.error_from_result(result)


def _taken(cursor: psycopg.RawCursor[Row], text: str, node: bytes, now: int, what: Any, limit: int) -> list[Row]:
    """Run a claim, and restore the order: what an UPDATE returns has none."""
    cursor.execute(text, (node, now, what, limit), prepare=True)
    return sorted(cursor.fetchall(), key=_CLAIMED_ORDER)


def _best(cursor: psycopg.RawCursor[Row], routes: Sequence[int], limit: int) -> list[int]:
    """Return the first available jobs of some routes, held by others or not."""
    found: list[list[Row]] = []
    for start in range(0, len(routes), MERGED):
        part = routes[start : start + MERGED]
        text, size = _merged(len(part))
        cursor.execute(text, [limit, *part, *[0] * (size - len(part))], prepare=True)
        found.append(cursor.fetchall())
    rows = found[0] if len(found) == 1 else heapq.merge(*found)
    return [seq for _, seq in rows][:limit]


@functools.cache
def _merged(routes: int) -> tuple[str, int]:
    """Return the text that merges the jobs of some routes, reading no more than are wanted, and how many routes it takes."""
    size = 1 << (routes - 1).bit_length()
    one = "(SELECT sort, seq FROM callboard_jobs WHERE state = 2 AND route = ${} ORDER BY sort, seq LIMIT $1)"
    looks = " UNION ALL ".join(one.format(number) for number in range(2, size + 2))
    return f"SELECT sort, seq FROM ({looks}) AS looks ORDER BY sort, seq LIMIT $1", size
