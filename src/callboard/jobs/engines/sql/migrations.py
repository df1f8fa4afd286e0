"""Making and changing the tables. Steps only add, with defaults, so that older programs work beside newer ones.

An empty database gets its tables from whoever opens it first. A database of an older schema is changed by `callboard migrate`
alone: first the schema, then the programs, one server after the other. What a step must not do is in `Step`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import exc

from callboard import errors
from callboard.databases import database, products
from callboard.jobs.engines.sql import dialect as dialects
from callboard.jobs.engines.sql import schema

TRIES: Final = 5


class Step(msgspec.Struct, frozen=True):
    """What leads to a version of the schema: statements that may be run again after a part of them was.

    They add tables, and columns with defaults; `min_reader` is the oldest program that may go on with the result. Programs of the
    version before go on writing while they run.
    """

    version: int
    min_reader: int
    texts: Sequence[str]


def steps(at: database.Database, dialect: dialects.Dialect) -> list[Step]:
    """Return all steps, in their order; the first one makes the tables."""
    return [Step(schema.VERSION, 1, (at.product.marks, *dialect.tables))]


def prepare(at: database.Database, dialect: dialects.Dialect, known: Sequence[Step] | None = None) -> None:
    """Make the tables where there are none, and make sure that this program can use those that are there.

    Safe in several processes at once. Raises StoreTooNew, StoreUnfit, and what connecting raises.
    """
    all_steps = known or steps(at, dialect)
    found = version(at) or migrate(at, dialect, all_steps)[1:]
    if found[1] > all_steps[-1].version:
        raise errors.StoreTooNew(
            f"{at.address.shown} has schema {found[0]} and needs a Callboard that reads {found[1]}; this one reads"
            f" {all_steps[-1].version}: upgrade"
        )
    if found[0] < all_steps[-1].version:
        raise errors.StoreUnfit(
            f"{at.address.shown} has schema {found[0]}, this Callboard writes {all_steps[-1].version}: run callboard migrate"
            " (older ones go on beside it)"
        )


def version(at: database.Database) -> tuple[int, int] | None:
    """Return (version, min_reader) of a database's schema, None when it has none. Raises StoreError."""
    with at.visit() as on:
        try:
            row = on.exec_driver_sql("SELECT version, min_reader FROM callboard_store WHERE id = 1").one_or_none()
        except exc.DBAPIError as error:
            cause = error.orig or error
            if at.product.means(cause) is products.Means.MISSING:
                return None
            raise at.translated(cause, on.info["host"]) from None
        return None if row is None else (row[0], row[1])


def migrate(at: database.Database, dialect: dialects.Dialect, known: Sequence[Step] | None = None) -> tuple[int, int, int]:
    """Take the steps that a database lacks; return its version before (0: none), and (version, min_reader) after."""
    before = version(at)
    current = before
    for step in known or steps(at, dialect):
        if current is None or current[0] < step.version:
            _take(at, dialect, step)
            current = version(at)
    assert current is not None
    return (0 if before is None else before[0], *current)


def _take(at: database.Database, dialect: dialects.Dialect, step: Step) -> None:
    """Take a step, though others may be taking the same one: they may make a table between our question and our answer."""
    text = dialect.upsert(
        "callboard_store",
        ("id", "version", "min_reader", "touched"),
        ("id",),
        {"version": "greatest(callboard_store.version, {new})", "min_reader": "greatest(callboard_store.min_reader, {new})"},
    )
    for left in reversed(range(TRIES)):
        try:
            with at.visit() as on:
                for statement in step.texts:
                    on.exec_driver_sql(statement)
                on.exec_driver_sql(text, (1, step.version, step.min_reader, 0))
                on.commit()
            return
        except exc.DBAPIError as error:
            found = version(at)
            if found is not None and found[0] >= step.version:
                return
            if not left:
                raise at.translated(error.orig or error) from None
