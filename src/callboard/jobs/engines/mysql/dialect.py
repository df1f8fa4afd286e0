"""The hot statements on MySQL 8 and MariaDB: the texts are valid on both, and on Galera.

Texts are built whole, bytes as hexadecimal literals, and given to the driver as they are: its own escaping costs more than all
the rest of an insert. What left the index of places stays there until the server purges it, and a locking read stops at each such
entry: so a claim looks for candidates without locks, then locks them by primary key, passing over those that are held. What waits
for locks takes them by growing `seq`.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy

from callboard.jobs.engines.mysql import tables
from callboard.jobs.engines.sql import schema

STATEMENT_BYTES: Final = 1_000_000
"""Bytes of a statement, about: fits the smallest max_allowed_packet. A job that needs more goes alone."""
END_ROWS: Final = 500
"""Ends in one statement."""
LOCK_ROWS: Final = 500
"""Rows locked by one statement."""
WIDER: Final = 4
"""Candidates looked at, for each that is wanted, where others hold the first ones."""
UNION_ROUTES: Final = 100
"""Routes whose candidates are read by one statement."""
SEARCH_ROUTES: Final = 4
"""Routes from which on those that have nothing are sorted out first."""
DUPLICATE: Final = 1062

Row = tuple[Any, ...]


class MySql:
    """See `jobs.engines.sql.dialect.Dialect`."""

    name = "mysql"
    session = "SET SESSION innodb_lock_wait_timeout = 1"
    tidy = ""
    share = "LOCK IN SHARE MODE"
    turn = ""
    tables: Sequence[str] = tables.TABLES

    def put(self, on: sqlalchemy.Connection, rows: Sequence[Row]) -> bool:
        statements = list(_inserting(rows)) if rows else []
        if len(statements) < 2:
            return all(_inserted(on, text) for text in statements)
        _run(on, "SAVEPOINT callboard_put")
        done = all(_inserted(on, text) for text in statements)
        _run(on, "RELEASE SAVEPOINT callboard_put" if done else "ROLLBACK TO SAVEPOINT callboard_put")
        return done

    def places(self, on: sqlalchemy.Connection, domain: int, ids: Sequence[bytes]) -> Sequence[Row]:
        found: list[Row] = []
        for start in range(0, len(ids), LOCK_ROWS):
            these = ",".join(map(_bytes, ids[start : start + LOCK_ROWS]))
            found += _read(
                on, f"SELECT id, seq FROM callboard_jobs FORCE INDEX (identity) WHERE domain = {domain:d} AND id IN ({these})"
            )
        return found

    def claim(self, on: sqlalchemy.Connection, routes: Sequence[int], limit: int, node: bytes, now: int) -> list[Row]:
        taken = self._take(on, routes, limit) if routes and limit > 0 else []
        for start in range(0, len(taken), LOCK_ROWS):
            seqs = _among(sorted(row[0] for row in taken[start : start + LOCK_ROWS]))
            _run(
                on,
                f"UPDATE callboard_jobs FORCE INDEX (PRIMARY) SET state = 3, fence = fence + 1, node = {_bytes(node)},"
                f" started_at = {now:d}, progress = NULL, reason = NULL WHERE {seqs}",
            )
        return taken

    def _take(self, on: sqlalchemy.Connection, routes: Sequence[int], limit: int) -> list[Row]:
        """Lock the first available jobs that nobody holds, and return their rows.

        In one statement when nobody is in the way. When less is found so, candidates are looked for as far as it takes: some may
        be held, or may have gone to others since.
        """
        taken = _taken_at_once(on, _near(on, routes, limit), limit)
        tried = {row[0] for row in taken}
        look = WIDER * limit  # The first `limit` are held, as it seems: another one is claiming.
        while len(taken) < limit:
            found = _candidates(on, _near(on, routes, look), look)
            untried = [seq for seq in found if seq not in tried]
            lost = False
            while untried and len(taken) < limit:
                part, untried = _next(untried, limit - len(taken))
                rows = _locked(on, part, limit - len(taken))
                lost |= len(rows) < len(part)
                taken += rows
                tried.update(part)
            if len(found) < look and not lost:
                break
            look *= WIDER
        return taken

    def end(self, on: sqlalchemy.Connection, node: bytes, rows: Sequence[Row]) -> int:
        return sum(_run(on, _ending(node, part)) for part in _weighed(sorted(rows)))

    def upsert(self, table: str, columns: Sequence[str], key: Sequence[str], changes: Mapping[str, str]) -> str:
        sets = [f"{column} = {text.replace('{new}', f'VALUES({column})')}" for column, text in changes.items()]
        return (
            f"INSERT INTO {table}({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))})"
            f" ON DUPLICATE KEY UPDATE {', '.join(sets) or f'{key[0]} = {table}.{key[0]}'}"
        )


def _run(on: sqlalchemy.Connection, text: str) -> int:
    """Run a statement that changes rows; return how many it matched."""
    driver: Any = on.connection.driver_connection
    driver.query(text.encode())
    matched: int = driver.affected_rows()
    return matched


def _read(on: sqlalchemy.Connection, text: str) -> Sequence[Row]:
    """Run a query; return its rows."""
    driver: Any = on.connection.driver_connection
    driver.query(text.encode())
    rows: Sequence[Row] = driver.store_result().fetch_row(0)
    return rows


# Literals


def _bytes(value: bytes | None) -> str:
    return "NULL" if value is None else f"x'{value.hex()}'"


def _text(value: str | None) -> str:
    return "NULL" if value is None else f"_utf8mb4 x'{value.encode().hex()}'"


def _number(value: int | None) -> str:
    return "NULL" if value is None else f"{value:d}"


def _numbers(values: Iterable[int]) -> str:
    return ",".join(map(str, values))


def _among(seqs: Sequence[int]) -> str:
    """Return the condition that a row is one of these, which grow: ranges, which cost the server less, or a list."""
    first, last = seqs[0], seqs[-1]
    if last - first == len(seqs) - 1:
        return f"seq BETWEEN {first} AND {last}"
    starts = [0, *(place for place in range(1, len(seqs)) if seqs[place] - seqs[place - 1] > 1), len(seqs)]
    if len(starts) > len(seqs) // 4:
        return f"seq IN ({_numbers(seqs)})"
    ranges = (f"seq BETWEEN {seqs[start]} AND {seqs[end - 1]}" for start, end in itertools.pairwise(starts))
    return f"({' OR '.join(ranges)})"


# Putting

_FORMS: Final[dict[str, tuple[str, Callable[[Any], str] | None]]] = {
    "id": ("x'%s'", bytes.hex),
    "digest": ("x'%s'", bytes.hex),
    "args": ("x'%s'", bytes.hex),
    "tags": ("%s", _text),
    "meta": ("%s", _text),
    "timeout": ("%s", _number),
    "node": ("%s", _bytes),
    "started_at": ("%s", _number),
}
"""How a column's literals are made, of what; the others are numbers."""
_COLUMNS: Final = {len(names): names for names in (schema.INSERTED.split(", "), schema.INSERTED_CLAIMED.split(", "))}


def _inserting(rows: Sequence[Row]) -> Iterator[str]:
    """Return the statements that insert rows."""
    names: list[str] = []
    forms: list[str] = []
    columns: list[Iterable[Any]] = []
    for name, column in zip(_COLUMNS[len(rows[0])], zip(*rows, strict=True), strict=True):
        if name in tables.DEFAULTS and column.count(tables.DEFAULTS[name]) == len(column):
            continue
        form, literal = _FORMS.get(name, ("%d", None))
        names.append(name)
        forms.append(form)
        columns.append(column if literal is None else map(literal, column))
    head = f"INSERT INTO callboard_jobs({','.join(names)}) VALUES "
    return (head + ",".join(part) for part in _parts(map(f"({','.join(forms)})".__mod__, zip(*columns, strict=True))))


def _parts(rows: Iterable[str]) -> Iterator[list[str]]:
    """Return rows of an insert in lists, one a statement."""
    part: list[str] = []
    size = 0
    for row in rows:
        if part and size + len(row) > STATEMENT_BYTES:
            yield part
            part, size = [], 0
        part.append(row)
        size += len(row) + 1
    yield part


def _inserted(on: sqlalchemy.Connection, text: str) -> bool:
    """Insert rows; False when one exists: the server has undone the statement."""
    try:
        _run(on, text)
    except Exception as error:
        if error.args[:1] != (DUPLICATE,):
            raise
        return False
    return True


# Claiming

_READY: Final = "FROM callboard_jobs FORCE INDEX (place) WHERE state = 2 AND route ="


def _near(on: sqlalchemy.Connection, routes: Sequence[int], look: int) -> Sequence[int]:
    """Return the routes that the first `look` jobs are of: those whose first jobs come first. All of them when they are few."""
    if len(routes) <= SEARCH_ROUTES:
        return routes
    found: list[Row] = []
    for start in range(0, len(routes), LOCK_ROWS):
        part = _numbers(sorted(routes[start : start + LOCK_ROWS]))
        text = (
            f"SELECT nearest, route FROM (SELECT (SELECT sort {_READY} r.route ORDER BY sort, seq LIMIT 1) AS nearest, r.route"
            f" FROM callboard_routes AS r WHERE r.route IN ({part})) AS n WHERE nearest IS NOT NULL"
            f" ORDER BY nearest LIMIT {look:d}"
        )
        found += _read(on, text)
    return [route for _, route in sorted(found)[:look]]


def _candidates(on: sqlalchemy.Connection, routes: Sequence[int], look: int) -> list[int]:
    """Return the first `look` available jobs of some routes, held or not, by (sort, seq)."""
    found: list[Row] = []
    for start in range(0, len(routes), UNION_ROUTES):
        found += _read(on, _looks(routes[start : start + UNION_ROUTES], look))
    return [seq for _, seq in sorted(found)[:look]]


def _looks(routes: Sequence[int], look: int) -> str:
    """Return the query for (sort, seq) of the first `look` available jobs of some routes."""
    looks = [f"SELECT sort, seq {_READY} {route:d} ORDER BY sort, seq LIMIT {look:d}" for route in routes]
    return looks[0] if len(looks) == 1 else f"({') UNION ALL ('.join(looks)}) ORDER BY sort, seq LIMIT {look:d}"


def _taken_at_once(on: sqlalchemy.Connection, routes: Sequence[int], limit: int) -> list[Row]:
    """Lock those of the first available jobs that nobody holds, and return their rows; none when the routes are too many."""
    if not 0 < len(routes) <= UNION_ROUTES:
        return []
    text = (
        f"SELECT {_CLAIMED} FROM ({_looks(routes, limit)}) AS look STRAIGHT_JOIN callboard_jobs AS jobs FORCE INDEX (PRIMARY)"
        " ON jobs.seq = look.seq WHERE state = 2 FOR UPDATE SKIP LOCKED"
    )
    return sorted(_read(on, text), key=_PLACE)


def _next(seqs: list[int], size: int) -> tuple[list[int], list[int]]:
    """Return which candidates to lock first, and the others. Those that follow by seq go together: see `_locked`."""
    most = LOCK_ROWS if seqs == sorted(seqs) else min(size, LOCK_ROWS)
    return seqs[:most], seqs[most:]


def _locked(on: sqlalchemy.Connection, seqs: list[int], limit: int) -> list[Row]:
    """Lock the first `limit`, by seq, of those candidates that are available still and held by nobody; return their rows."""
    text = (
        f"SELECT {_CLAIMED} FROM callboard_jobs AS jobs FORCE INDEX (PRIMARY) WHERE {_among(sorted(seqs))} AND state = 2"
        f" ORDER BY seq LIMIT {limit:d} FOR UPDATE SKIP LOCKED"
    )
    rows = {row[0]: row for row in _read(on, text)}
    return [rows[seq] for seq in seqs if seq in rows]


_CLAIMED: Final = ", ".join(f"jobs.{name}" for name in schema.CLAIMED.split(", ")).replace("jobs.fence", "jobs.fence + 1")
_PLACE: Final = operator.itemgetter(4, 5, 0)
"""(priority, run_at, seq) of a row of `schema.CLAIMED`: the order of available jobs."""


# Ending claims

_LITERALS: Final[tuple[Callable[[Any], str], ...]] = (_number,) * 8 + (_bytes, _text)


def _ending(node: bytes, rows: Sequence[Row]) -> str:
    """Return the statement that ends claims, sorted by seq: constants where all agree, else each row's own value by its rank."""
    columns: Sequence[Row] = tuple(zip(*rows, strict=True))
    chosen = _choice(columns[0])
    literals = zip(columns, _LITERALS, strict=True)
    values = [
        literal(column[0]) if column.count(column[0]) == len(column) else chosen(list(map(literal, column)))
        for column, literal in literals
    ]
    _, fence, state, sort, run_at, attempts, deaths, finished_at, result, reason = values
    if finished_at == sort:
        finished_at = "sort"  # Which has its new value by then.
    progress = "" if min(columns[2]) >= 6 else f"progress = IF({state} >= 6, progress, NULL), "
    return (
        f"UPDATE callboard_jobs FORCE INDEX (PRIMARY) SET {progress}state = {state},"
        f" sort = {sort}, run_at = {run_at}, attempts = {attempts}, deaths = {deaths}, finished_at = {finished_at},"
        f" result = {result}, reason = {reason}, node = NULL WHERE {_among(columns[0])} AND fence = CAST({fence} AS SIGNED)"
        f" AND node = {_bytes(node)} AND state = 3 AND cancel_requested = 0"
    )


def _choice(seqs: Sequence[int]) -> Callable[[list[str]], str]:
    """Return what makes of literals, one for each seq, the expression that yields a row's own."""
    first, last = seqs[0], seqs[-1]
    if last - first == len(seqs) - 1:
        return lambda literals: f"ELT(seq - {first - 1},{','.join(literals)})"
    if last - first < 2 * len(seqs):
        return lambda literals: f"ELT(seq - {first - 1},{','.join(_filled(seqs, literals))})"
    return lambda literals: f"ELT(INTERVAL(seq,{_numbers(seqs)}),{','.join(literals)})"


def _filled(seqs: Sequence[int], literals: list[str]) -> list[str]:
    """Return literals with NULLs between them, where a seq is missing."""
    filled = ["NULL"] * (seqs[-1] - seqs[0] + 1)
    for seq, literal in zip(seqs, literals, strict=True):
        filled[seq - seqs[0]] = literal
    return filled


def _weighed(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Return ends in lists, one a statement."""
    part: list[Row] = []
    size = 0
    for row in rows:
        weight = 2 * len(row[8] or b"")
        if part and (len(part) == END_ROWS or size + weight > STATEMENT_BYTES):
            yield part
            part, size = [], 0
        part.append(row)
        size += weight
    if part:
        yield part
