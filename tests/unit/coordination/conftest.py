"""A site in memory, a session on it, and a presence."""

import pytest

from callboard.coordination import presence
from callboard.coordination.engines import memory
from callboard.kit import clock
from callboard.testing.conformance.coordination import memory_bench

SESSION_SECONDS = 0.6


class Ground:
    """One site; `presence` begins a session with a wire of its own, and a presence on it."""

    def __init__(self):
        self.site = memory.Site()
        self.clock = clock.SystemClock()
        self.made = []

    async def session(self, name, wire=None):
        engine = memory.MemoryEngine(self.site, link=wire, session_seconds=SESSION_SECONDS)
        session = await engine.session(name)
        self.made.append(session)
        return session

    async def presence(self, name):
        wire = memory_bench.Wire()
        made = presence.Presence(await self.session(name, wire), self.clock)
        made.wire = wire
        await made.start()
        self.made.append(made)
        return made

    def paths(self):
        return sorted(self.site.entries)

    async def close(self):
        for each in reversed(self.made):
            await (each.stop() if isinstance(each, presence.Presence) else each.close())


@pytest.fixture
async def ground():
    made = Ground()
    yield made
    await made.close()
