"""Tidying the tables while they are written: where a product needs it, its servers look too seldom for a busy queue.

Runs beside the writing, in a thread and on a connection of its own that last as long as it takes; nobody waits for it.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from sqlalchemy import exc

from callboard import errors
from callboard.databases import database

ROWS: Final = 20_000
"""Rows written here after which it is time: passing dead entries then costs a claim no more than reading live ones."""
PAUSE_SECONDS: Final = 4.0
SHARE: Final = 20
"""It rests this many times as long as it took: 5 % of the time at most."""

_log = logging.getLogger("callboard.store")


class Tidying:
    """For one engine. `wrote` is called by the thread that writes."""

    def __init__(self, at: database.Database, statement: str, *, rows: int = ROWS) -> None:
        """`statement` is run outside of transactions; empty: there is nothing to do, ever."""
        self._at = at
        self._statement = statement
        self._due = rows
        self._rows = 0
        self._not_before = 0.0
        self._thread: threading.Thread | None = None

    def wrote(self, rows: int) -> None:
        """Count what was written; begin to tidy when it is time. Returns at once."""
        self._rows += rows
        if not self._statement or self._rows < self._due or time.monotonic() < self._not_before:
            return
        if self._thread is None or not self._thread.is_alive():
            self._rows = 0
            self._thread = threading.Thread(target=self._tidy, name="callboard-tidying", daemon=True)
            self._thread.start()

    def _tidy(self) -> None:
        began = time.monotonic()
        try:
            with self._at.visit() as on:
                on.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql(self._statement)
        except (errors.StoreError, exc.DBAPIError) as error:
            _log.debug("the tables were not tidied: %s", error)
        ended = time.monotonic()
        self._not_before = ended + max(PAUSE_SECONDS, SHARE * (ended - began))
