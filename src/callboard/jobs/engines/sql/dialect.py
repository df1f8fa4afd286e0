"""The seam to the products: tables, and the statements that are hot or that no two products write alike.

Everything is called inside a transaction of READ COMMITTED, on the connection given. Texts take parameters as `%s`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import sqlalchemy

Row = tuple[Any, ...]


class Dialect(Protocol):
    """What differs between products. Stateless: shared by threads and connections."""

    @property
    def name(self) -> str: ...

    @property
    def tables(self) -> Sequence[str]:
        """Statements that make the tables of schema version 1, in their order."""

    @property
    def session(self) -> str:
        """A statement that each connection begins with; empty when it needs none."""

    @property
    def tidy(self) -> str:
        """A statement outside of transactions that a busy table needs every few seconds; empty when it needs none."""

    @property
    def share(self) -> str:
        """What ends a SELECT that holds its rows against writers until the commit, but not against its like."""

    @property
    def turn(self) -> str:
        """A statement by which one who will write a document gets his turn: locks of rows alone would let those who share them
        overtake him for ever. Empty where they do not.
        """

    def put(self, on: sqlalchemy.Connection, rows: Sequence[Row]) -> bool:
        """Insert jobs, all rows of `schema.INSERTED`, or all of `INSERTED_CLAIMED`; `seq` grows with their order.

        False when one of them exists already: nothing was inserted, and the transaction is as if it had not been asked. No two
        of the rows have one identity.
        """

    def places(self, on: sqlalchemy.Connection, domain: int, ids: Sequence[bytes]) -> Sequence[Row]:
        """Return (id, seq) of those of a domain's jobs that exist, in any order. Nothing is locked."""

    def claim(self, on: sqlalchemy.Connection, routes: Sequence[int], limit: int, node: bytes, now: int) -> list[Row]:
        """Give the first `limit` available jobs of these routes, by (sort, seq), to `node`; pass over those that another
        transaction holds.

        Writes state 3, fence + 1, node, `started_at` = now, no progress, no reason. Returns rows of `schema.CLAIMED`, the fence
        grown, in that order. Not empty while one of the available jobs is not held.
        """

    def end(self, on: sqlalchemy.Connection, node: bytes, rows: Sequence[Row]) -> int:
        """End claims of `node`, rows of `schema.ENDED`; return how many were touched.

        A row is touched when its job has this seq and fence, is owned by `node`, runs, and nobody wished to cancel it. Then
        `node` becomes NULL, and the progress too unless the state is terminal. No two rows name one job.
        """

    def upsert(self, table: str, columns: Sequence[str], key: Sequence[str], changes: Mapping[str, str]) -> str:
        """Return the text that inserts one row, `(%s, …)`, or changes the one that has its key.

        `changes` maps a column to an expression in which `{new}` is the value proposed for that column; nothing changes when it
        is empty. The row's placeholders may be repeated, separated by commas, for more rows.
        """
