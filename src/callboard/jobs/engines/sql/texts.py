"""Running SQL texts, and the little makers of them: lists of placeholders, in parts that every server takes, merged looks."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Final, TypeVar

import sqlalchemy

T = TypeVar("T")

PART: Final = 500
"""Rows or keys in one statement."""
BYTES: Final = 400_000
"""Bytes of values in one statement: fits the smallest max_allowed_packet, though some are written as two."""
UNION: Final = 100
"""Looks merged in one statement."""


def run(on: sqlalchemy.Connection, text: str, values: Iterable[Any] = ()) -> list[Any]:
    """Run a statement and return its rows; none where it has none. Raises the driver's own errors.

    On a cursor of the driver's: SQLAlchemy's would take several times as long as many a statement.
    """
    cursor: Any = on.connection.cursor()
    cursor.execute(text, tuple(values))
    return list(cursor.fetchall()) if cursor.description else []


def list_of(values: Sized) -> str:
    """Return `(%s, …)` for some values."""
    return _row(len(values))


def lists_of(columns: int, rows: Sized) -> str:
    """Return `((%s, …), …)` for some rows."""
    return "(" + ", ".join([_row(columns)] * len(rows)) + ")"


@functools.cache
def _row(n: int) -> str:
    return "(" + ", ".join(["%s"] * n) + ")"


@functools.lru_cache(256)
def repeated(text: str, columns: int, rows: int) -> str:
    """Return an insert of one row, of so many columns, as one of more rows."""
    return text.replace(_row(columns), ", ".join([_row(columns)] * rows), 1)


def flat(rows: Iterable[Iterable[Any]]) -> list[Any]:
    """Return the values of rows, one after the other."""
    return list(itertools.chain.from_iterable(rows))


def parts(items: Sequence[T], size: int = PART) -> Iterator[Sequence[T]]:
    """Return items in parts of at most `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))


def weighed(rows: Sequence[tuple[Any, ...]]) -> Iterator[Sequence[tuple[Any, ...]]]:
    """Return rows in parts of about `BYTES` at most, and one at least."""
    start = size = 0
    for place, row in enumerate(rows):
        weight = sum(len(value) for value in row if isinstance(value, bytes))
        if place > start and size + weight > BYTES:
            yield rows[start:place]
            start, size = place, 0
        size += weight
    if rows:
        yield rows[start:]


@functools.lru_cache(256)
def first(look: str, times: int, limit: int) -> str:
    """Return the query for what `times` looks find, the first `limit` of each by (sort, seq)."""
    one = f"(SELECT * FROM ({look} ORDER BY sort, seq LIMIT {limit:d}) AS look)"
    return " UNION ALL ".join([one] * times)
