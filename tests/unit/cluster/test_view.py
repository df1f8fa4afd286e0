"""The cluster view from entries in coordination, what it answers, and who waits for the next one."""

import asyncio

import msgspec
import pytest

from callboard import errors
from callboard.cluster import deltas, gathering, view, watching
from callboard.coordination import engine
from callboard.names import model

WORKER = model.Offer("worker", "role", "all", "i")
BILLING = model.Offer("billing", "service", "one", "i")
ITSELF = model.Offer("node", "role", "all", "i")


def entry(folder, name, facts, number=1):
    return engine.Entry(f"{folder}/{name}", msgspec.json.encode(facts), number, "session")


def node(incarnation, server="south", *offers, **more):
    given = {"incarnation": incarnation, "host": "h", "port": 1, "server": server, "site": "main", "offers": (ITSELF, *offers)}
    return entry(model.NODES, incarnation, model.NodeFacts(**{**given, **more}))


def agent(name, server="south", state="serving", site="main"):
    return entry(model.SERVERS, name, model.ServerFacts(agent=name, server=server, site=site, state=state))


def facts(servers=(), nodes=(), actives=()):
    made = gathering.Gathering("main")
    for folder, entries in ((model.SERVERS, servers), (model.NODES, nodes), (model.ACTIVE, actives)):
        made.take(folder, entries)
    return made.facts()


def test_entries_become_facts():
    office = model.Office(label="billing", group="main", incarnation="n1", host="h", port=1, server="south", site="main")
    found = facts([agent("a1")], [node("n1", "south", WORKER, BILLING)], [entry(model.ACTIVE, "billing.main", office, 12)])
    (made,) = found.nodes.values()
    assert (made.roles, made.services, made.available, made.address.port) == (("worker",), ("billing",), True, 1)
    assert found.servers["a1"].server == "south"
    assert found.offices == {
        "billing.main": view.Office(label="billing", group="main", epoch=12, incarnation="n1", server="south", site="main")
    }


def test_what_makes_no_sense_or_is_of_another_site_is_absent():
    odd = [
        engine.Entry("nodes/n2", b"\xff", 1, "s"),
        entry(model.NODES, "n3", model.NodeFacts(incarnation="other", host="h", port=1, site="main")),
        node("n4", site="elsewhere"),
    ]
    assert facts([agent("a1", site="elsewhere")], [node("n1"), *odd]).nodes.keys() == {"n1"}
    assert facts([agent("a1", site="elsewhere")]).servers == {}


@pytest.mark.parametrize("state", ["draining", "drained"])
def test_nodes_of_a_server_that_drains_are_not_available(state):
    found = facts([agent("a1", "south", state), agent("a2", "north")], [node("n1", "south", WORKER), node("n2", "north", WORKER)])
    assert [each.incarnation for each in view.View(nodes=found.nodes).available("worker")] == ["n2"]


def test_an_agent_that_died_does_not_make_its_successors_server_drain():
    found = facts([agent("a1", "south", "draining"), agent("a2", "south", "serving")], [node("n1", "south", WORKER)])
    assert found.nodes["n1"].available


def test_a_node_that_drains_is_there_and_not_available():
    found = facts([agent("a1")], [node("n1", "south", WORKER, state="draining"), node("n2", "south", WORKER)])
    now = view.View(nodes=found.nodes)
    assert [each.incarnation for each in now.available("worker")] == ["n2"]
    assert not now.nodes["n1"].available


def test_what_a_view_answers():
    found = facts((), [node(f"n{number}", "south", WORKER) for number in range(4)] + [node("n9", "south", BILLING)])
    now = view.View(nodes=found.nodes, version=view.Version(3, 4))
    assert [each.incarnation for each in now.available("billing")] == ["n9"]
    assert now.available("nobody") == []
    loads = {}
    for number in range(40):
        taken = now.ring("worker").pick_bounded(f"key {number}", loads)
        loads[taken.incarnation] = loads.get(taken.incarnation, 0) + 1
    assert max(loads.values()) <= 13
    assert now.holder("billing") is None
    with pytest.raises(errors.InvalidInput):
        now.ring("nobody").pick("key")


def test_marks_are_written_and_read():
    assert view.parse_mark(view.View(version=view.Version(3, 4)).mark) == (view.Version(3, 4), False)
    assert view.parse_mark(view.NOTHING.mark) == (view.Version(), True)
    for text in ("", "3", "3.x", "-1.2", "3.4-old", "3.4.5", "1" * 99 + ".1"):
        with pytest.raises(errors.InvalidInput):
            view.parse_mark(text)


def test_readers_ignore_what_they_do_not_know_and_fill_in_what_they_miss():
    said = msgspec.json.encode(
        {"since": None, "version": {"epoch": 1, "serial": 2}, "new": 1, "nodes": {"n1": {"incarnation": "n1"}}}
    )
    now = view.after(view.NOTHING, msgspec.json.decode(said, type=view.Delta))
    assert now.available("worker") == [] and now.nodes["n1"].available


def test_what_is_packed_once_is_for_all():
    made = deltas.Deltas(1)
    made.take(facts((), [node("n1")]))
    assert made.packed(None) is made.packed(None)
    before = made.packed(None)
    made.take(facts((), [node("n2")]))
    assert made.packed(None) is not before


async def test_whoever_waits_hears_of_newer_views_alone():
    watched = watching.Watched()
    first = view.View(version=view.Version(1, 1))
    waiting = asyncio.create_task(watched.after(view.NOTHING.version, view.NOTHING.stale))
    await asyncio.sleep(0)
    watched.put(first)
    assert await waiting is first
    assert await watched.after(view.Version(1, 5), False, 0.01) is first, "who has seen a newer one waits"
    waiting = asyncio.create_task(watched.after(first.version, False))
    await asyncio.sleep(0)
    watched.put(msgspec.structs.replace(first, stale=True))
    assert (await waiting).stale


async def test_changes_that_come_faster_than_they_are_taken_become_one():
    watched = watching.Watched()
    nodes = facts((), [node("n1"), node("n2")]).nodes
    watched.put(view.View(version=view.Version(1, 1)))
    changes = watching.changes(lambda seen: watched.after(seen.version, seen.stale))
    assert (await anext(changes)).view.version == view.Version(1, 1)
    watched.put(view.View(nodes={"n1": nodes["n1"]}, version=view.Version(1, 2)))
    watched.put(view.View(nodes={"n2": nodes["n2"]}, version=view.Version(1, 3)))
    change = await anext(changes)
    assert [each.incarnation for each in change.nodes] == ["n2"] and change.gone_nodes == ()
    await changes.aclose()


async def test_older_answers_of_another_gateway_are_no_changes():
    answers = [view.View(version=view.Version(2, number)) for number in (5, 4, 5, 6)]
    given = iter(answers)

    async def newer(seen):
        return next(given)

    changes = watching.changes(newer)
    assert [(await anext(changes)).view.version.serial for _ in range(2)] == [5, 6]
