"""The nodes of other servers, as doors: where registries are asked for that this machine's own files do not show.

Read from coordination when somebody looks for a registry and only then, so that it costs nothing while names are known. What was
read last is believed while coordination is out of reach.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from callboard import errors
from callboard.coordination import engine
from callboard.names import model as names
from callboard.node import layout
from callboard.rpc import doors

READ_SECONDS: Final = 1.0
"""How long a read may take, and how long what it found is not read again: many may look for a registry at one time."""


class Neighbours:
    """On one event loop."""

    def __init__(self, session: engine.Session) -> None:
        self._session = session
        self._found: list[doors.Door] = []
        self._read_at = -READ_SECONDS

    async def doors(self) -> list[doors.Door]:
        """Return the doors of the site's nodes by incarnation; a moment old at most, older while coordination is out of reach."""
        now = asyncio.get_running_loop().time()
        if now - self._read_at >= READ_SECONDS:
            self._read_at = now
            try:
                async with asyncio.timeout(READ_SECONDS):
                    entries = await self._session.entries(names.NODES)
                self._found = [found for entry in entries if (found := _door(entry)) is not None]
            except (errors.CoordinationError, TimeoutError):
                pass  # What was read before is still the best guess: dead ones are found out by asking.
        return self._found


def _door(entry: engine.Entry) -> doors.Door | None:
    try:
        said = msgspec.json.decode(entry.body, type=layout.NodeEntry)
    except msgspec.MsgspecError:
        return None
    if not (said.incarnation and said.host and said.port and said.server):
        return None
    roles = tuple(str(role.get("role", "")) for role in said.roles)
    return doors.Door(said.incarnation, said.host, said.port, b"", roles, said.server)
