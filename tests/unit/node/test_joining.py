"""A session that comes late: nobody waits for coordination, and nothing is missed once it is there."""

import asyncio

import pytest

from callboard import errors, settings
from callboard.coordination import engine
from callboard.coordination.engines import memory
from callboard.node import joining


@pytest.fixture
def site():
    return memory.Site()


@pytest.fixture
async def late(site):
    made = joining.LateSession(memory.MemoryEngine(site), "node-1", session_seconds=2.0, patience_seconds=0.05)
    yield made
    await made.stop()


async def test_it_is_the_real_one_from_the_start_when_coordination_is_there(site, late):
    await late.start()
    assert (late.state, late.granted_seconds, late.name) == (engine.State.CONNECTED, 3.0, "node-1")
    (number,) = await late.apply([engine.Create("nodes/1", b"{}")])
    assert [(entry.number, entry.session) for entry in await late.entries("nodes")] == [(number, "node-1")]
    assert set(await late.sessions()) == {"node-1"}


async def test_without_coordination_it_starts_out_of_reach_and_joins_by_itself(site, late):
    site.stop()
    await late.start()
    seen, states = asyncio.Event(), []
    late.watch("nodes", seen.set)
    end_one = late.watch("active", lambda: pytest.fail("ended before"))
    late.follow(states.append)
    end_one()
    assert (late.state, late.granted_seconds) == (engine.State.SUSPENDED, 2.0)
    for ask in (late.apply([engine.Absent("nodes/1")]), late.entries("nodes"), late.sessions(), late.end("node-2")):
        with pytest.raises(errors.CoordinationUnavailable):
            await ask
    site.resume()
    async with asyncio.timeout(5):
        await seen.wait()
        assert states == [engine.State.CONNECTED] and late.state is engine.State.CONNECTED
        seen.clear()
        await late.apply([engine.Create("nodes/1", b"{}")])
        await seen.wait()


async def test_what_was_watched_early_can_be_let_go_late(site, late):
    site.stop()
    await late.start()
    calls = []
    end = late.watch("nodes", lambda: calls.append(1))
    site.resume()
    async with asyncio.timeout(5):
        while not calls:
            await asyncio.sleep(0.01)
    end()
    end()
    calls.clear()
    await late.apply([engine.Create("nodes/1", b"{}")])
    await late.entries("nodes")
    assert calls == []


async def test_stopping_ends_the_session_and_may_come_at_any_time(site, late):
    await late.start()
    await late.close()
    assert site.names == set()
    other = joining.LateSession(memory.MemoryEngine(site), "node-2")
    await other.stop()
    site.stop()
    waiting = joining.LateSession(memory.MemoryEngine(site), "node-3")
    await waiting.start()
    await waiting.stop()


def test_an_engine_that_nobody_has_is_refused():
    with pytest.raises(errors.InvalidSetting, match="carrier-pigeon"):
        joining.late(settings.load(flags={"coordination.url": "carrier-pigeon://loft"}), "node-1")


async def test_a_session_that_is_left_ends_by_its_time_alone(site, late):
    """Who starts itself anew is not gone meanwhile: nobody may take the nodes that it speaks for to be nobody's."""
    await late.start()
    late.leave()
    await late.stop()
    assert site.names == {"node-1"}
