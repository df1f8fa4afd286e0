"""What only the memory engine has: sites by name, links, and an outage that expires nobody."""

import asyncio

import pytest

from callboard import errors
from callboard.coordination import engine as seam
from callboard.coordination import engines
from callboard.coordination.engines import memory
from callboard.testing import virtual
from callboard.testing.conformance.coordination import memory_bench


async def test_a_name_is_a_site_while_anybody_has_it_open():
    one, two, other = engines.open("memory:here"), engines.open("memory:here"), engines.open("memory:")
    mine, session, apart = await one.session("node-a"), await two.session("node-b"), await other.session("node-a")
    await mine.apply([seam.Create("x/y", b"")])
    assert len(await session.entries("x")) == 1 and await apart.entries("x") == []
    for each in (mine, session, apart):
        await each.close()


def test_nothing_expires_while_the_site_does_not_serve(eventually):
    async def main(loop):
        site = memory.Site()
        session = await memory.MemoryEngine(site, session_seconds=3.0).session("node-a")
        site.stop()
        await eventually(lambda: session.state is seam.State.SUSPENDED)
        with pytest.raises(errors.CoordinationUnavailable, match="no quorum"):
            await session.sessions()
        await asyncio.sleep(60 * 60)
        site.resume()
        await eventually(lambda: session.state is seam.State.CONNECTED)
        assert site.names == {"node-a"}
        await session.close()

    virtual.run(main)


async def test_one_whose_beginning_was_not_answered_begins_anew():
    class OneWay:
        """Arrives, and does not come back."""

        trips = 0

        async def trip(self):
            self.trips += 1
            if self.trips == 2:
                raise errors.CoordinationUnavailable("lost on the way back")

    site = memory.Site()
    session = memory.MemorySession("node-a", site, OneWay(), 1.0)
    with pytest.raises(errors.CoordinationUnavailable):
        await session.begin()
    assert site.names == {"node-a"}
    await session.begin()
    await session.close()
    assert site.names == set()


async def test_a_link_that_hangs_is_waited_for_in_bounds(eventually):
    class Hangs(memory_bench.Wire):
        async def trip(self):
            while not self.open:
                await asyncio.sleep(0.01)

    wire = Hangs()
    session = await memory.MemoryEngine(memory.Site(), link=wire, session_seconds=0.3).session("node-a")
    wire.open = False
    with pytest.raises(errors.CoordinationUnavailable, match="did not answer within"):
        await session.apply([seam.Create("x/y", b"")])
    assert session.state is seam.State.SUSPENDED
    wire.open = True
    await eventually(lambda: session.state.value != "suspended")
    await session.close()


def test_it_lives_on_virtual_time():
    """An hour of heartbeats takes no time; a session that is cut off expires to the second."""

    async def main(loop):
        site, wire = memory.Site(), memory_bench.Wire()
        session = await memory.MemoryEngine(site, link=wire, session_seconds=3.0).session("node-a")
        await asyncio.sleep(60 * 60)
        assert session.state is seam.State.CONNECTED
        await session.sessions()
        wire.open = False
        await asyncio.sleep(2.9)
        assert site.names == {"node-a"}
        await asyncio.sleep(0.2)
        assert site.names == set()
        await session.close()

    virtual.run(main)


def test_a_standstill_of_the_process_ends_no_session():
    """What was to be heard meanwhile is heard first."""

    async def main(loop):
        site = memory.Site()
        sessions = [await memory.MemoryEngine(site, session_seconds=3.0).session(name) for name in ("node-a", "node-b")]
        for _ in range(20):
            await asyncio.sleep(0.7)
            loop.timeline.now += 60.0
            await asyncio.sleep(0.1)
            assert site.names == {"node-a", "node-b"}
        assert {session.state for session in sessions} == {seam.State.CONNECTED}
        for session in sessions:
            await session.close()

    virtual.run(main)
