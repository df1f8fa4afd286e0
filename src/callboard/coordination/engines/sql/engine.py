"""The engine: which database, and sessions there."""

from __future__ import annotations

from typing import Final

from callboard import databases
from callboard.coordination import engine as seam
from callboard.coordination.engines.sql import session

LEAST_SECONDS: Final = 1.0
"""The shortest granted time: sessions look five times a second, and a commit may take a moment."""


class SqlEngine:
    """Coordination in one database. Each session has a thread and a connection of its own."""

    name = "sql"

    def __init__(self, url: str, session_seconds: float) -> None:
        self._database = databases.open(url)
        self._granted_seconds = max(session_seconds, LEAST_SECONDS)

    async def session(self, name: str) -> session.SqlSession:
        made = session.SqlSession(seam.check_session(name), self._database, self._granted_seconds)
        await made.begin()
        return made

    async def close(self) -> None:
        """Sessions hold all there is."""


def open(url: str, *, session_seconds: float = 3.0) -> SqlEngine:
    """Open `mysql://USER:PASSWORD@HOST[:PORT],…/DATABASE`, or `postgresql://…`. Connects to nothing.

    A session is granted what is asked for, but at least LEAST_SECONDS. Raises InvalidSetting.
    """
    return SqlEngine(url, session_seconds)
