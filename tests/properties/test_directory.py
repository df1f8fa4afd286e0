"""The directory against a model that looks at everything each time: longest match, answers, and which seats changed."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from callboard import errors
from callboard.coordination import engine
from callboard.names import directory, groups, model

LABELS = ("billing", "cache")
INCARNATIONS = [f"{n:032x}" for n in range(4)]
DOMAINS = ["a", "b", "x.a", "y.x.a", "b.a", "c"]
GROUPS = ("north", "south", "west")

offers = st.builds(
    model.Offer, st.sampled_from(LABELS), st.just("service"), st.sampled_from(["one", "all"]), st.sampled_from(["i", "j"])
)
nodes = st.dictionaries(st.sampled_from(INCARNATIONS), st.lists(offers, max_size=2, unique_by=lambda each: each.label))
offices = st.dictionaries(
    st.tuples(st.sampled_from(LABELS), st.sampled_from(GROUPS)), st.tuples(st.sampled_from(INCARNATIONS), st.integers(1, 3))
)
topologies = st.dictionaries(st.sampled_from([*DOMAINS, "."]), st.sampled_from(GROUPS))
steps = st.lists(st.one_of(nodes.map(lambda given: ("nodes", given)), offices.map(lambda given: ("offices", given))), max_size=6)


def _group_of(topology, domain):
    """The longest domain of the topology that this one is inside of."""
    inside = [named for named in topology if named == "." or domain == named or domain.endswith(f".{named}")]
    return topology[max(inside, key=lambda named: -1 if named == "." else len(named))] if inside else None


@given(topologies, st.sampled_from(DOMAINS))
def test_the_group_of_a_domain_is_that_of_the_longest_match(topology, domain):
    mapping = {}
    for named, group in topology.items():
        mapping.setdefault(group, []).append(named)
    grouping = groups.Groups(mapping)
    try:
        found = grouping.of(domain)
    except errors.DomainNotServed:
        found = None
    assert found == _group_of(topology, domain)


def _entries(what, given):
    if what == "nodes":
        for incarnation, offered in given.items():
            facts = model.NodeFacts(incarnation=incarnation, host="h", port=1, offers=tuple(offered))
            yield engine.Entry(f"nodes/{incarnation}", msgspec.json.encode(facts), 1)
    else:
        for (label, group), (incarnation, epoch) in given.items():
            held = model.Office(label=label, group=group, incarnation=incarnation, host="h", port=1)
            yield engine.Entry(f"active/{label}.{group}", msgspec.json.encode(held), epoch)


def _expected(state, known, label, group):
    """Who answers for a seat, from scratch: (incarnations, epoch), or the name of an error."""
    offered = {incarnation: each for incarnation, many in state["nodes"].items() for each in many if each.label == label}
    held = state["offices"].get((label, group))
    if not offered and label not in known:
        return ([held[0]], held[1]) if held else "unknown_name"
    if len(set(offered.values())) > 1:
        return "interface_conflict"
    active = next(iter(offered.values())).active if offered else known[label]
    if active == "all":
        return (sorted(offered), 0) if group == "" else "unknown_name"
    if group == "":
        return "unknown_name"
    return ([held[0]], held[1]) if held else ([], 0)


def _found(book, label, group):
    try:
        answer = book.answer((label, group))
    except errors.CallError as error:
        return error.code
    return [address.incarnation for address in answer.instances], answer.epoch


@given(steps)
def test_answers_are_those_of_looking_at_everything_and_what_changed_is_told(history):
    book = directory.Directory(groups.Groups({group: [group] for group in GROUPS}))
    state = {"nodes": {}, "offices": {}}
    known = {}
    seats = [(label, group) for label in LABELS for group in ("", *GROUPS)]
    for what, given_state in history:
        before = {seat: _found(book, *seat) for seat in seats}
        state[what] = given_state
        changed = getattr(book, what)(_entries(what, given_state))
        for many in state["nodes"].values():
            for each in many:
                known[each.label] = _first_active(state, each.label)
        after = {seat: _found(book, *seat) for seat in seats}
        assert after == {seat: _expected(state, known, *seat) for seat in seats}
        assert {seat for seat in seats if before[seat] != after[seat]} <= changed


def _first_active(state, label):
    return next(
        each.active for incarnation in sorted(state["nodes"]) for each in state["nodes"][incarnation] if each.label == label
    )
