"""One connection of a line, looked after by the lookout while somebody waits for an answer on it."""

from __future__ import annotations

import contextlib
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from callboard.databases import database


class Wire:
    """A connection that was just made. Between `begin…` and `commit` or `roll_back` it is looked after."""

    def __init__(self, of: database.Database, session: str = "") -> None:
        """`session`: a statement to begin with."""
        self._product = of.product
        self.on: sa.Connection = of.connect()
        self.raw: Any = self.on.connection.driver_connection
        self._product.take_over(self.raw)
        self.host = self.on.info["host"]
        self.token: str = self.on.info["token"]
        """By which the server knows this connection."""
        self._guard = of.guard(self.raw, self.host)
        if session:
            self._set(of, session)

    def _set(self, of: database.Database, session: str) -> None:
        self._guard.begin()
        try:
            self.on.exec_driver_sql(session)
            self.on.commit()
        except exc.DBAPIError as error:
            self.close()
            raise of.translated(error.orig or error, self.host) from None
        self._guard.end()

    def end_former(self, token: str) -> None:
        """End a connection that was left, should the server not know yet that it is over: it may hold locks."""
        self._guard.begin()
        with contextlib.suppress(Exception):  # It ends by itself some time; should this connection be bad, its user finds out.
            self._product.end(self.raw, token)
        self._guard.end()

    def begin(self, writer: bytes, number: int) -> bool:
        """Begin to write, with a mark; tell whether the mark's number was as expected."""
        self._guard.begin()
        return self._product.begin(self.raw, writer, number)

    def begin_plain(self) -> None:
        """Begin to write, without a mark."""
        self._guard.begin()
        self._product.begin_plain(self.raw)

    def begin_reading(self) -> None:
        """Begin to read one snapshot."""
        self._guard.begin()
        self._product.begin_reading(self.raw)

    def commit(self) -> None:
        """Raises the driver's error, which may leave open what became of the transaction."""
        if self.on.in_transaction():  # As far as SQLAlchemy knows: it was asked to run something.
            self.on.commit()
        else:
            self._product.commit(self.raw)
        self._guard.end()

    def roll_back(self) -> None:
        """Raises the driver's error: nothing of the transaction will be applied all the same."""
        self.on.rollback()  # Nothing, where SQLAlchemy was not asked to run anything.
        self.raw.rollback()
        self._guard.end()

    def close(self) -> None:
        """Leave the connection, whatever state it is in. Allowed twice."""
        self._guard.close()
        with contextlib.suppress(Exception):  # It is given up: what the driver says of its end helps nobody.
            self.on.invalidate()
        with contextlib.suppress(Exception):
            self.on.close()
