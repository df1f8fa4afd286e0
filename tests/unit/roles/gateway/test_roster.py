"""Who is listed: the nodes of the site, those of this data directory as they say it here."""

from __future__ import annotations

import msgspec

from callboard.coordination import engine, sessions
from callboard.coordination.engines import memory
from callboard.kit import clock
from callboard.roles.gateway import roster

HERE, THERE = "nodes/" + "1" * 32, "nodes/" + "2" * 32


async def test_the_roster_is_the_sites_and_what_is_said_here_is_newer(monkeypatch):
    monkeypatch.setattr(roster, "MAX_AGE_NS", -1)
    site = memory.Site()
    session = await memory.MemoryEngine(site, session_seconds=600.0).session("node-x")
    await session.apply([engine.Create(path, msgspec.json.encode({"port": 1})) for path in (HERE, THERE)])

    async def entries() -> list[sessions.Entry]:
        return [sessions.Entry(path, b'{"port":2}', "node-x") for path in (HERE, "agent")]

    made = roster.Roster(entries, session, clock.SystemClock())
    assert (await made.nodes(), made.partial) == ([{"port": 2}, {"port": 1}], False)
    site.stop()
    assert (await made.nodes(), made.partial) == ([{"port": 2}], True)
    site.resume()
    assert (len(await made.nodes()), made.partial) == (2, False)
    await session.close()
