"""The version that counts: it only grows, one text a version, and no password is kept."""

import pytest

from callboard import errors
from callboard.cluster import pushed
from callboard.coordination import engine, engines

TEXT = 'store.url = "mysql://u:secret@db/x"\ncoordination.url = "zookeeper://a:1,b:2/c"\n'


@pytest.fixture
async def session():
    opened = engines.open("memory:")
    made = await opened.session("one")
    yield made
    await made.close()
    await opened.close()


async def push(session, version, text=TEXT):
    return await pushed.push(session, version=version, text=text, cluster="acme")


async def test_versions_grow(session):
    assert await pushed.read(session) is None and await push(session, 1) is None
    assert (await push(session, 2)).version == 1
    assert (await push(session, 2)).version == 2, "the same again changes nothing"
    found = await pushed.read(session)
    assert (found.version, found.cluster, found.digest) == (2, "acme", pushed.digest(TEXT))
    with pytest.raises(errors.StateRefused, match="version 2 was pushed, and this file is version 1: take the newer file"):
        await push(session, 1)
    with pytest.raises(errors.StateRefused, match="another file of version 2 was pushed: count the version of this one up"):
        await push(session, 2, "other")
    assert await pushed.read(session) == found


async def test_it_outlives_who_pushed_it_and_shows_no_password(session):
    await push(session, 1)
    (entry,) = await session.entries("cluster")
    assert entry.session is None and b"secret" not in entry.body
    found = await pushed.read(session)
    assert found.text == TEXT.replace("secret", "***")


async def test_what_makes_no_sense_is_replaced(session):
    await session.apply([engine.Create(pushed.PATH, b"by hand", lasting=True)])
    assert await pushed.read(session) is None and await push(session, 1) is None
    assert (await pushed.read(session)).version == 1


async def test_of_two_at_once_one_is_told(session):
    await push(session, 1)

    class Slow:
        """Somebody else pushes between the read and the write."""

        async def entries(self, folder):
            found = await session.entries(folder)
            if found[0].body.count(b'"version":1'):
                await push(session, 3)
            return found

        async def apply(self, operations):
            return await session.apply(operations)

    with pytest.raises(errors.CoordinationConflict):
        await push(Slow(), 2)
    assert (await pushed.read(session)).version == 3


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mysql://u:p%40ss@h/d", "mysql://u:***@h/d"),
        ("'mysql://u:p@h/d' and \"postgresql://v:q@h\"", "'mysql://u:***@h/d' and \"postgresql://v:***@h\""),
        ("zookeeper://a:2181,b:2181/x", "zookeeper://a:2181,b:2181/x"),
        ("mysql://u@h:3/d", "mysql://u@h:3/d"),
    ],
)
def test_texts_without_passwords(text, shown):
    assert pushed.shown(text) == shown
