"""An app that sees the cluster: in a node's loop, from other loops and threads, and where there is none."""

import asyncio

import pytest

from callboard import Callboard, errors
from callboard.cluster import view, watching


@pytest.fixture
async def seen():
    """An app in a node, and the node's view."""
    app, watched = Callboard("eyes"), watching.Watched()
    app.look_through(watched)
    yield app, watched
    app.look_through(None)


def newer(serial, *names):
    nodes = {name: view.Node(incarnation=name, roles=("worker",)) for name in names}
    return view.View(nodes=nodes, version=view.Version(1, serial))


async def test_an_app_sees_what_its_node_knows(seen):
    app, watched = seen
    assert app.view.stale and app.view.available("worker") == []
    watched.put(newer(1, "a"))
    assert [node.incarnation for node in app.view.available("worker")] == ["a"]


async def test_watching_begins_with_what_there_is(seen):
    app, watched = seen
    watched.put(newer(1, "a"))
    changes = app.watch()
    assert [node.incarnation for node in (await anext(changes)).nodes] == ["a"]
    watched.put(newer(2, "b"))
    change = await anext(changes)
    assert [node.incarnation for node in (*change.nodes, *change.gone_nodes)] == ["b", "a"]
    await changes.aclose()


async def test_a_handler_in_a_thread_sees_and_watches(seen):
    app, watched = seen

    async def first_two():
        found = []
        async for change in app.watch():
            found.append(change.view.version.serial)
            if len(found) == 2:
                return found

    watched.put(newer(1, "a"))
    watching_there = asyncio.create_task(asyncio.to_thread(lambda: (app.view.version.serial, asyncio.run(first_two()))))
    while not watched._waiting:  # It hopped here, and waits for the second.
        await asyncio.sleep(0.005)
    watched.put(newer(2, "a", "b"))
    assert await watching_there == (1, [1, 2])


async def test_where_there_is_no_node_nothing_is_seen(seen):
    app, _ = seen
    app.look_through(None)
    for ask in (lambda: app.view, app.watch):
        with pytest.raises(errors.InvalidInput, match=r"Client\.view"):
            ask()
