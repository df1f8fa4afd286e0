"""Where an agent leaves the upkeep of the store to a domain controller."""

import pytest

from callboard.coordination import engine
from callboard.coordination.engines import memory
from callboard.names import groups
from callboard.node import held


@pytest.fixture
async def room():
    site = memory.Site()
    opened = memory.MemoryEngine(site, session_seconds=6)
    agent, controller = await opened.session("agent-1"), await opened.session("node-1")
    made = held.Held(agent, groups.Groups({"north": ("acme",), "south": ("shop",)}))
    await made.start()
    yield site, controller, made
    await made.stop()
    site.resume()
    for session in (agent, controller):
        await session.close()


async def test_domains_with_a_controller_are_left_to_it(room, eventually):
    _, controller, made = room
    assert made.vacant("acme") and made.vacant("shop")
    await controller.apply([engine.Create("active/domain-controller.north", b""), engine.Create("active/billing.south", b"")])
    await eventually(lambda: not made.vacant("acme"))
    assert made.vacant("shop") and made.vacant("nobodys") and not made.vacant("team.acme")
    await controller.close()
    await eventually(lambda: made.vacant("acme"))


async def test_out_of_reach_nobody_is_taken_to_do_it(room, eventually):
    site, controller, made = room
    await controller.apply([engine.Create("active/domain-controller.north", b"")])
    await eventually(lambda: not made.vacant("acme"))
    site.stop()
    await eventually(lambda: made.vacant("acme"))
    site.resume()
    await eventually(lambda: not made.vacant("acme"))
