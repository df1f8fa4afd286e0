"""What the agent says of its server in coordination, for those who show or lead the cluster; kept true as long as it lives."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import msgspec

from callboard.coordination import presence
from callboard.kit import lifecycle
from callboard.names import model


class ServerEntry(lifecycle.Lifecycle):
    """The entry of one server. While coordination is out of reach, what was told last waits. On one event loop."""

    def __init__(self, declared: presence.Presence, *, server: str, site: str, file: int = 0) -> None:
        """`declared` is started, and closed after this. `file` is the version of the cluster's file that it was started from."""
        super().__init__()
        self._presence = declared
        agent = declared.incarnation
        software = metadata.version("callboard")
        self.facts = model.ServerFacts(agent=agent, server=server, site=site, software=software, file=file)

    async def tell(self, **changes: Any) -> None:
        """Say some facts anew, by the names that they have in `ServerFacts`."""
        changed = msgspec.structs.replace(self.facts, **changes)
        if changed != self.facts:
            self.facts = changed
            await self._declare()

    async def _start(self) -> None:
        await self._declare()

    async def _declare(self) -> None:
        await self._presence.declare(f"{model.SERVERS}/{self.facts.agent}", msgspec.json.encode(self.facts))
