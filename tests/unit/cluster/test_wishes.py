"""What is wished of servers and nodes: one thing each, taken back or fulfilled, never by mistake for another."""

import pytest

from callboard import errors
from callboard.cluster import wishes
from callboard.coordination import engine, engines

ALPHA = wishes.of_server("alpha")
NODE = wishes.of_node("0" * 32)


@pytest.fixture
async def session():
    opened = engines.open("memory:")
    made = await opened.session("one")
    yield made
    await made.close()
    await opened.close()


async def test_wishes_outlive_who_wished_them_and_are_taken_back(session):
    await wishes.wish(session, ALPHA, "drain", "key-1")
    await wishes.wish(session, NODE, "drain", "key-2")
    assert {entry.session for entry in await session.entries("wishes")} == {None}
    found = await wishes.read(session)
    assert {path: (each.wish.what, each.wish.by) for path, each in found.items()} == {
        ALPHA: ("drain", "key-1"),
        NODE: ("drain", "key-2"),
    }
    assert [wishes.node_of(path) for path in (ALPHA, NODE)] == [None, "0" * 32]
    assert await wishes.take_back(session, ALPHA) and not await wishes.take_back(session, ALPHA)
    assert list(await wishes.read(session)) == [NODE]


async def test_a_wish_that_stands_stays(session):
    first = await wishes.wish(session, ALPHA, "renew", "a")
    before = await wishes.read(session)
    assert await wishes.wish(session, ALPHA, "renew", "b") == first and await wishes.read(session) == before


async def test_a_drain_comes_over_a_renewal_and_not_the_other_way(session):
    await wishes.wish(session, ALPHA, "renew", "")
    (renewal,) = (await wishes.read(session)).values()
    await wishes.wish(session, ALPHA, "drain", "")
    assert not await wishes.fulfil(session, renewal), "what ends the renewal now leaves the drain alone"
    with pytest.raises(errors.StateRefused, match="to be drained: take that back first"):
        await wishes.wish(session, ALPHA, "renew", "")
    (drain,) = (await wishes.read(session)).values()
    assert drain.wish.what == "drain" and await wishes.fulfil(session, drain)


async def test_a_node_is_not_renewed(session):
    with pytest.raises(errors.InvalidInput, match="drain it"):
        await wishes.wish(session, NODE, "renew", "")
    assert not await wishes.read(session)


async def test_a_server_without_a_name_has_wishes_too(session):
    await wishes.wish(session, wishes.of_server(""), "drain", "")
    assert list(await wishes.read(session)) == [wishes.of_server("")]


async def test_what_makes_no_sense_is_passed_over(session):
    await session.apply([engine.Create(ALPHA, b'{"what":"dance","at":1}', lasting=True)])
    assert await wishes.read(session) == {}
