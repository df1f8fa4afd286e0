"""Whom an agent answers for, as coordination is told, and what stays of it."""

import msgspec
import pytest

from callboard.coordination import engine
from callboard.coordination.engines import memory
from callboard.names import model
from callboard.node import rosters

NAME = "agent-" + "1" * 32
PATH = "rosters/" + "1" * 32
A, B = "a" * 32, "b" * 32


class Room:
    """A site with an agent, and somebody who looks on."""

    def __init__(self):
        self.site = memory.Site()
        self.engine = memory.MemoryEngine(self.site, session_seconds=0.5)

    async def open(self):
        self.agent = await self.engine.session(NAME)
        self.witness = await self.engine.session("witness")
        self.rosters = rosters.Rosters(self.agent)
        await self.rosters.start()

    async def listed(self):
        found = [entry for entry in await self.witness.entries(model.ROSTERS) if entry.path == PATH]
        return msgspec.json.decode(found[0].body, type=model.Roster) if found else None

    async def close(self):
        await self.rosters.stop()
        for session in (self.agent, self.witness):
            await session.close()


@pytest.fixture
async def room():
    made = Room()
    await made.open()
    yield made
    await made.close()


def listing(*nodes):
    return model.Roster(NAME, nodes)


async def test_the_list_follows_who_lives_and_outlives_the_agent(room, eventually):
    async def says(*nodes):
        return await room.listed() == listing(*nodes)

    room.rosters.tell({B, A})
    await eventually(lambda: says(A, B))
    room.rosters.tell([B])
    await eventually(lambda: says(B))
    await room.agent.close()
    assert await says(B)


async def test_it_is_told_once_coordination_is_in_reach(room, eventually):
    room.site.stop()
    room.rosters.tell([A])
    room.site.resume()

    async def told():
        return await room.listed() == listing(A)

    await eventually(told)


@pytest.mark.parametrize("how", ["after it was lost", "by itself"])
async def test_a_list_that_somebody_removed_comes_back(room, eventually, monkeypatch, how):
    monkeypatch.setattr(rosters, "CHECK_SECONDS", 0.05 if how == "by itself" else 60)

    async def told():
        return await room.listed() == listing(A)

    room.rosters.tell([A])
    await eventually(told)
    (entry,) = await room.witness.entries(model.ROSTERS)
    await room.witness.apply([engine.Remove(PATH, entry.number)])
    if how == "after it was lost":
        await room.witness.end(NAME)
    await eventually(told)


@pytest.mark.parametrize(("left", "stays"), [((), False), ((A,), True)])
async def test_an_agent_that_stops_leaves_a_list_only_of_those_with_claims(room, eventually, left, stays):
    room.rosters.tell([A])
    await eventually(room.listed)
    room.rosters.tell(left)
    await room.rosters.stop()
    assert (await room.listed() is not None) is stays
