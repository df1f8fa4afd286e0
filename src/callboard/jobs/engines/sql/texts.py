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
UNION: Final = 100
"""Looks merged in one statement."""


def run(on: sqlalchemy.Connection, text: str, values: Iterable[Any] = ()) -> list[Any]:
    """Run a statement and return its rows, as tuples; none where it has none."""
    result = on.exec_driver_sql(text, tuple(values))
    return list(result) if result.returns_rows else []


def list_of(values: Sized) -> str:
    """Return `(%s, …)` for some values."""
    return _list(len(values))


def lists_of(columns: int, rows: Sized) -> str:
    """Return `((%s, …), …)` for some rows."""
    return "(" + ", ".join([_list(columns)] * len(rows)) + ")"


@functools.cache
def _list(n: int) -> str:
    return "(" + ", ".join(["%s"] * n) + ")"


def flat(rows: Iterable[Iterable[Any]]) -> list[Any]:
    """Return the values of rows, one after the other."""
    return list(itertools.chain.from_iterable(rows))


def parts(items: Sequence[T], size: int = PART) -> Iterator[Sequence[T]]:
    """Return items in parts of at most `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))


@functools.lru_cache(256)
def first(look: str, times: int, limit: int) -> str:
    """Return the query for what `times` looks find, the first `limit` of each by (sort, seq)."""
    one = f"(SELECT * FROM ({look} ORDER BY sort, seq LIMIT {limit:d}) AS look)"
    return " UNION ALL ".join([one] * times)
