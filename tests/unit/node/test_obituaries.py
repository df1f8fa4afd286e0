"""What coordination hears of dead nodes: at once, or as soon as it is in reach."""

import asyncio

import pytest

from callboard.coordination.engines import memory
from callboard.node import layout, obituaries

DEAD, ALIVE = "d" * 32, "a" * 32


class Room:
    """A site where two nodes and the agent have sessions."""

    def __init__(self):
        self.site = memory.Site()
        self.engine = memory.MemoryEngine(self.site, session_seconds=30)
        self.sessions = []

    async def open(self):
        for name in ("agent-1", layout.session_name(DEAD), layout.session_name(ALIVE)):
            self.sessions.append(await self.engine.session(name))
        self.told = obituaries.Obituaries(self.sessions[0])
        await self.told.start()

    async def close(self):
        await self.told.stop()
        self.site.resume()
        for session in self.sessions:
            await session.close()


@pytest.fixture
async def room():
    made = Room()
    await made.open()
    yield made
    await made.close()


async def test_a_dead_nodes_session_ends_at_once_and_others_live(room):
    room.told.dead(DEAD)
    async with asyncio.timeout(2):
        await room.told.settled()
    assert room.site.names == {"agent-1", layout.session_name(ALIVE)}
    room.told.dead("e" * 32)  # One that never had a session.
    async with asyncio.timeout(2):
        await room.told.settled()


async def test_it_is_said_again_until_coordination_hears_it(room):
    room.site.stop()
    room.told.dead(DEAD)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await room.told.settled()
    room.site.resume()
    async with asyncio.timeout(5):
        await room.told.settled()
    assert layout.session_name(DEAD) not in room.site.names


async def test_names_do_not_pile_up_for_ever(room, monkeypatch):
    monkeypatch.setattr(obituaries, "KEPT", 3)
    room.site.stop()
    for number in range(9):
        room.told.dead(f"{number:032x}")
    assert list(room.told._due) == [layout.session_name(f"{number:032x}") for number in (6, 7, 8)]
