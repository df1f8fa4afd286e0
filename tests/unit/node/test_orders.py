"""What is wished is brought about, once, and also by an agent that only starts. Coordination is real, the nursery a stand-in."""

import asyncio
import os

import pytest
import structlog

from callboard.cluster import pushed, wishes
from callboard.coordination import engine, engines, presence
from callboard.kit import clock
from callboard.node import orders, published, renewal, report, server_entry

NODE, OTHER = "1" * 32, "2" * 32
ALPHA = wishes.of_server("alpha")


class Nursery:
    """Notes what it is told."""

    def __init__(self):
        self.wards = {NODE: "ward"}
        self.told = []
        self.filled = True

    def dismiss(self, ward):
        self.told.append(ward)

    async def empty(self, grace_seconds, hurry):
        self.filled = False
        self.wards.clear()

    def fill(self):
        self.filled = True

    def due(self, *, every=False):
        return None

    async def replace(self, place):
        return report.Report()


class Room:
    def __init__(self, session, watched, directory):
        self.session = session
        self.nodes = Nursery()
        self.drained = directory / "drained"
        self.present = presence.Presence(session, clock.SystemClock(), incarnation="a" * 32)
        self.entry = server_entry.ServerEntry(self.present, server="alpha", site="main")
        self.rolling = renewal.Renewal(self.nodes, lambda renewing, trouble: None)
        self.again = []
        self.refusal = ""
        self.watched = watched
        self.parts = []

    async def start(self, born_for=0):
        async def again(number):
            self.again.append(number)
            return self.refusal

        made = orders.Orders(
            self.session,
            self.entry,
            self.nodes,
            self.rolling,
            drained=self.drained,
            grace_seconds=0,
            again=again,
            born_for=born_for,
        )
        self.parts = [self.present, self.entry, self.rolling, made]
        for part in self.parts:
            await part.start()
        return made

    async def stop(self):
        for part in reversed(self.parts):
            await part.stop()

    async def wish(self, path, what="drain"):
        await wishes.wish(self.watched, path, what, "key")
        return (await wishes.read(self.watched))[path]

    async def wished(self):
        return list(await wishes.read(self.watched))

    async def until(self, condition):
        async with asyncio.timeout(10):
            while not (await condition() if asyncio.iscoroutinefunction(condition) else condition()):
                await asyncio.sleep(0.01)

    async def nothing_is_wished(self):
        return not await self.wished()


@pytest.fixture
async def room(tmp_path):
    opened = engines.open("memory:")
    session, other = await opened.session("agent-1"), await opened.session("gateway")
    made = Room(session, other, tmp_path)
    yield made
    await made.stop()
    for each in (session, other):
        await each.close()
    await opened.close()


async def test_a_node_is_asked_to_leave_once_and_its_wish_goes_with_it(room):
    made = await room.start()
    await room.wish(wishes.of_node(NODE))
    await room.until(lambda: room.nodes.told == ["ward"])
    made.look()
    await room.wish(wishes.of_server("beta"))  # Somebody else's: looked at, and left alone.
    del room.nodes.wards[NODE]
    made.look()

    async def only_the_other():
        return await room.wished() == [wishes.of_server("beta")]

    await room.until(only_the_other)
    assert room.nodes.told == ["ward"] and room.nodes.filled


async def test_a_wish_for_a_node_that_is_gone_with_its_agent_goes_after_a_while(room, monkeypatch):
    monkeypatch.setattr(orders, "LOST_SECONDS", 0.2)
    await room.watched.apply([engine.Create(f"nodes/{NODE[::-1]}", b"{}"), engine.Create(f"nodes/{'3' * 32}", b"{}")])
    for node in (OTHER, "3" * 32):
        await room.wish(wishes.of_node(node))
    await room.start()

    async def only_the_live_one():
        return await room.wished() == [wishes.of_node("3" * 32)]

    await room.until(only_the_live_one)
    assert room.nodes.told == []


async def test_a_drained_server_is_filled_when_that_is_taken_back(room):
    await room.start()
    await room.wish(ALPHA)
    await room.until(lambda: room.entry.facts.state == "drained")
    assert not room.nodes.filled and room.drained.exists() and await room.wished() == [ALPHA]
    await wishes.take_back(room.watched, ALPHA)
    await room.until(lambda: room.entry.facts.state == "serving")
    assert room.nodes.filled and not room.drained.exists()


async def test_an_agent_that_starts_in_a_drained_server_knows_it_before_coordination_says_so(room):
    room.drained.touch()
    await room.wish(ALPHA)
    await room.start()
    await room.until(lambda: room.entry.facts.state == "drained")
    assert room.drained.exists() and not room.nodes.filled


async def test_what_was_taken_back_while_no_agent_lived_is_found_out(room):
    room.drained.touch()
    await room.start()
    await room.until(lambda: room.entry.facts.state == "serving" and room.nodes.filled and not room.drained.exists())


async def test_a_renewal_is_begun_by_one_agent_and_ended_by_the_next(room):
    await room.start()
    standing = await room.wish(ALPHA, "renew")
    await room.until(lambda: room.again == [standing.number])
    assert await room.wished() == [ALPHA]
    await room.stop()

    room.present = presence.Presence(room.session, clock.SystemClock(), incarnation="b" * 32)
    room.entry = server_entry.ServerEntry(room.present, server="alpha", site="main")
    room.rolling = renewal.Renewal(room.nodes, lambda renewing, trouble: None)
    await room.start(born_for=standing.number)
    await room.until(room.nothing_is_wished)
    assert room.again == [standing.number] and room.entry.facts.trouble == ""


async def test_a_renewal_that_cannot_begin_is_said_and_not_tried_for_ever(room):
    room.refusal = "the file is wrong"
    await room.start()
    await room.wish(ALPHA, "renew")
    await room.until(room.nothing_is_wished)
    assert room.entry.facts.trouble == "the file is wrong" and len(room.again) == 1


@pytest.mark.parametrize(
    ("version", "text", "overtaken"), [(2, "new", False), (3, "newer", False), (1, "old", True), (2, "another", True)]
)
async def test_a_newer_file_is_heard_of_once(room, version, text, overtaken):
    heard = []
    made = published.Published(room.session, published.File(version, text), lambda: heard.append(1))
    await made.start()
    await pushed.push(room.watched, version=2, text="new", cluster="acme")
    if overtaken:
        await room.until(lambda: heard)
    await pushed.push(room.watched, version=4, text="last", cluster="acme")
    await room.until(lambda: heard)
    assert heard == [1]
    await made.stop()


async def test_who_was_started_from_no_file_hears_of_none(room):
    made = published.Published(room.session, published.NONE, lambda: os.abort())
    await pushed.push(room.watched, version=2, text="new", cluster="acme")
    await made.start()
    await made.stop()


async def test_a_drain_that_cannot_be_written_down_is_begun_when_it_can(room, tmp_path):
    """As on a disk without room, or one that may only be read for a while."""
    room.drained = tmp_path / "full" / "drained"
    await room.start()
    await room.wish(ALPHA)
    with structlog.testing.capture_logs() as said:
        await room.wish(wishes.of_node(NODE))
        await room.until(lambda: [each["log_level"] for each in said].count("error") > 1)
    assert room.nodes.filled and room.entry.facts.state == "serving"
    room.drained.parent.mkdir()
    await room.until(lambda: room.entry.facts.state == "drained")
