"""Properties of the cluster view: whatever a node missed, what leads it to a version leads to the same view as the whole."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from callboard.cluster import deltas, view
from callboard.names import model

KEYS = st.sampled_from(["a", "b", "c", "d"])
SERVERS = st.builds(model.ServerFacts, agent=KEYS, state=st.sampled_from(["serving", "draining"]))
NODES = st.builds(view.Node, incarnation=KEYS, server=KEYS, available=st.booleans(), roles=st.tuples(KEYS))
OFFICES = st.builds(view.Office, label=KEYS, group=st.just("main"), epoch=st.integers(1, 3), incarnation=KEYS)
FACTS = st.builds(
    lambda servers, nodes, offices: view.Facts(
        {each.agent: each for each in servers},
        {each.incarnation: each for each in nodes},
        {each.name: each for each in offices},
    ),
    st.lists(SERVERS, max_size=2),
    st.lists(NODES, max_size=3),
    st.lists(OFFICES, max_size=2),
)
STEPS = st.lists(st.tuples(FACTS, st.booleans(), st.sets(st.integers(0, 2))), max_size=8)
"""What there is, whether it is stale, and which of three nodes hear of it."""

_decode = msgspec.msgpack.Decoder(view.Delta).decode


def told(before: view.View, made: deltas.Deltas) -> view.View:
    """Tell a node, over the wire."""
    now = view.after(before, _decode(made.packed(before.version)))
    assert now is not None, "what leads from the version that the node has follows on it"
    return now


def whole(made: deltas.Deltas) -> view.View:
    now = view.after(view.NOTHING, made.delta(None))
    assert now is not None
    return now


@given(STEPS, st.integers(0, 5))
def test_any_sequence_of_deltas_leads_to_the_whole(steps: list[Any], kept_gone: int) -> None:
    made = deltas.Deltas(7, kept_gone=kept_gone)
    nodes = [view.NOTHING] * 3
    for facts, stale, hears in steps:
        made.take(facts, stale=stale)
        for each in hears:
            nodes[each] = told(nodes[each], made)
            assert nodes[each] == whole(made)
            assert (nodes[each].servers, nodes[each].nodes, nodes[each].offices) == (facts.servers, facts.nodes, facts.offices)
            assert nodes[each].stale == stale
    if steps:
        assert {told(node, made).mark for node in nodes} == {whole(made).mark}


@given(STEPS)
def test_versions_grow_with_what_changes_and_with_nothing_else(steps: list[Any]) -> None:
    made = deltas.Deltas(7)
    seen = [whole(made)]
    for facts, stale, _ in steps:
        changed = made.take(facts, stale=stale)
        assert changed == (made.version > seen[-1].version)
        assert not made.take(facts, stale=stale)
        seen.append(whole(made))
        same = msgspec.structs.replace(seen[-1], version=seen[-2].version) == seen[-2]
        assert changed != same or made.version.serial == 1, "only the very first one may say what everybody thought already"


@given(STEPS, st.data())
def test_a_gap_is_noticed(steps: list[Any], data: Any) -> None:
    """What does not follow on what a node has is not applied."""
    made = deltas.Deltas(7)
    states = [whole(made)]
    for facts, stale, _ in steps:
        made.take(facts, stale=stale)
        states.append(whole(made))
    old, since = data.draw(st.sampled_from(states)), data.draw(st.sampled_from(states)).version
    delta = made.delta(since)
    after = view.after(old, delta)
    assert after is None if delta.since not in (None, old.version) else after == whole(made)


@given(STEPS, STEPS)
def test_a_later_holder_leads_everybody_to_its_own_whole(steps: list[Any], later: list[Any]) -> None:
    node = view.NOTHING
    for epoch, course in ((7, steps), (9, later)):
        made = deltas.Deltas(epoch)
        for facts, stale, hears in course:
            made.take(facts, stale=stale)
            if 0 in hears:
                assert made.version > node.version or node.version.epoch == epoch
                node = told(node, made)
                assert node == whole(made)


@given(FACTS, FACTS)
def test_a_change_tells_what_differs(one: view.Facts, other: view.Facts) -> None:
    before = view.View(one.servers, one.nodes, one.offices, version=view.Version(1, 1))
    now = view.View(other.servers, other.nodes, other.offices, version=view.Version(1, 2))
    change = view.change(before, now)
    assert {each.incarnation for each in change.gone_nodes} == before.nodes.keys() - now.nodes.keys()
    left = {key: node for key, node in before.nodes.items() if node not in change.gone_nodes}
    assert {**left, **{node.incarnation: node for node in change.nodes}} == now.nodes
    assert all(before.nodes.get(node.incarnation) != node for node in change.nodes)
    assert {each.name for each in change.gone_offices} == before.offices.keys() - now.offices.keys()
    assert {each.agent for each in change.gone_servers} == before.servers.keys() - now.servers.keys()


@given(FACTS, KEYS, st.text(max_size=6))
def test_a_key_stays_with_its_node_while_others_leave(facts: view.Facts, label: str, key: str) -> None:
    now = view.View(facts.servers, facts.nodes, facts.offices)
    nodes = now.available(label)
    assert [each.incarnation for each in nodes] == sorted(
        each.incarnation for each in facts.nodes.values() if each.available and label in each.roles
    )
    if len(nodes) > 1:
        order = now.ring(label).order(key)
        assert now.ring(label).pick(key) == order[0]
        left = {each.incarnation: each for each in nodes if each != order[-1]}
        assert view.View(nodes=left).ring(label).pick(key) == order[0]
