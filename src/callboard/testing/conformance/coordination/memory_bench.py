"""The bench of the memory engine: a site in this process, and a link for each session that can be cut.

Also the ground on which engines that are broken on purpose are tried: `wrap` is put around each session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from callboard import errors
from callboard.coordination import engine as seam
from callboard.coordination.engines import memory
from callboard.testing.conformance.coordination import bench

ABILITIES: Final = (bench.CUT, bench.EXPIRY, bench.LEADER, bench.QUORUM)


class Wire:
    """A link that can be cut: what is under way then does not arrive."""

    def __init__(self) -> None:
        self.open = True

    async def trip(self) -> None:
        await asyncio.sleep(0)
        if not self.open:
            raise errors.CoordinationUnavailable("the link is cut: heal it")


class Client:
    """An engine whose one session has a wire of its own."""

    name = "memory"

    def __init__(self, ground: MemoryBench) -> None:
        self._ground = ground
        self._wire = Wire()
        self._engine = memory.MemoryEngine(ground.site, link=self._wire, session_seconds=ground.session_seconds)

    async def session(self, name: str) -> seam.Session:
        session = self._ground.wrap(await self._engine.session(name))
        self._ground.wires[id(session)] = self._wire
        return session

    async def close(self) -> None:
        await self._engine.close()


class MemoryBench(bench.Bench):
    """A site in this process."""

    def __init__(
        self,
        *,
        session_seconds: float = 0.6,
        site: memory.Site | None = None,
        wrap: Callable[[seam.Session], seam.Session] = lambda session: session,
    ) -> None:
        super().__init__("memory:", session_seconds=session_seconds, abilities=ABILITIES)
        self.site = site or memory.Site()
        self.wrap = wrap
        self.wires: dict[int, Wire] = {}

    def open(self) -> seam.Engine:
        return Client(self)

    async def cut(self, session: seam.Session) -> None:
        self.wires[id(session)].open = False

    async def heal(self, session: seam.Session) -> None:
        self.wires[id(session)].open = True

    async def lose_leader(self) -> None:
        """There is none to lose; those who were connected see a moment of nothing."""
        self.site.stop()
        asyncio.get_running_loop().call_later(self.session_seconds / 10, self.site.resume)

    async def lose_quorum(self) -> None:
        self.site.stop()

    async def regain_quorum(self) -> None:
        self.site.resume()
