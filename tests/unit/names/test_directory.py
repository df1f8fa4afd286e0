import msgspec
import pytest

from callboard import errors
from callboard.coordination import election, engine
from callboard.names import directory, groups, model

A, B, C = (f"{n:032x}" for n in (1, 2, 3))


def offer(label="cache", active="all", interface="i", kind="service", idempotent=("get",)):
    return model.Offer(label, kind, active, interface, idempotent)


def node(incarnation, *offers, host="h"):
    facts = model.NodeFacts(incarnation=incarnation, host=host, port=1, offers=offers)
    return engine.Entry(f"nodes/{incarnation}", msgspec.json.encode(facts), 1, "s")


def office(label, group, incarnation, number):
    held = model.Office(label=label, group=group, incarnation=incarnation, host="h", port=1)
    return engine.Entry(f"active/{label}.{group}", msgspec.json.encode(held), number, "s")


def book(*entries, grouping=None):
    made = directory.Directory(grouping or groups.Groups({"north": ["acme"], "south": ["initech"]}))
    made.nodes(entries)
    return made


def incarnations(answer):
    return [address.incarnation for address in answer.instances]


def test_all_instances_answer_where_all_are_active():
    made = book(node(B, offer()), node(A, offer()))
    answer = made.lookup(model.parse("cache@anywhere"))
    assert (answer.active, answer.group, answer.epoch, answer.idempotent) == ("all", "", 0, ("get",))
    assert incarnations(answer) == [A, B]
    assert made.lookup(model.parse("cache")) is made.lookup(model.parse("cache@other"))


def test_the_holder_of_the_office_answers_for_all_domains_of_its_group():
    made = book(node(A, offer("billing", "one")), node(B, offer("billing", "one")))
    answer = made.lookup(model.parse("billing@acme"))
    assert (answer.instances, answer.epoch, answer.group) == ((), 0, "north")
    assert made.offices([office("billing", "north", B, 7)]) == {("billing", "north")}
    answer = made.lookup(model.parse("billing@team.acme"))
    assert (incarnations(answer), answer.epoch, answer.idempotent) == ([B], 7, ("get",))
    assert not made.lookup(model.parse("billing@initech")).instances
    with pytest.raises(errors.DomainNotServed, match=r"globex.*north, south"):
        made.lookup(model.parse("billing@globex"))


def test_seats_change_hands_once_however_many_domains_they_have():
    grouping = groups.Groups({"big": [f"d{n}" for n in range(10_000)], "south": ["initech"]})
    made = book(node(A, offer("billing", "one")), grouping=grouping)
    made.offices([office("billing", "big", A, 1), office("billing", "south", A, 2)])
    assert made.offices([office("billing", "big", B, 3), office("billing", "south", A, 2)]) == {("billing", "big")}
    assert made.lookup(model.parse("billing@d9999")).epoch == 3
    assert made.offices([office("billing", "big", B, 3), office("billing", "south", A, 2)]) == set()


def test_a_standby_that_comes_or_goes_changes_no_office():
    made = book(node(A, offer("billing", "one")))
    assert made.nodes([node(A, offer("billing", "one")), node(B, offer("billing", "one"))]) == {("billing", "")}
    assert made.nodes([node(A, offer("billing", "one"))]) == {("billing", "")}


def test_an_exact_instance_is_found_among_all_and_under_its_own_epoch():
    made = book(node(A, offer("billing", "one"), offer()), node(B, offer("billing", "one")))
    made.offices([office("billing", "north", A, 7)])
    assert made.lookup(model.parse(f"billing@acme/{A}")).epoch == 7
    standby = made.lookup(model.parse(f"billing@acme/{B}"))
    assert (incarnations(standby), standby.epoch) == ([B], 0)
    assert made.lookup(model.parse(f"cache/{A}")).group == ""
    for gone in (f"cache/{B}", f"cache/{C}", f"nothing/{A}"):
        with pytest.raises(errors.UnknownName):
            made.lookup(model.parse(gone))


def test_two_programs_under_one_name_are_a_conflict_until_one_has_gone():
    made = book(node(A, offer()))
    assert made.nodes([node(A, offer()), node(B, offer(interface="other"))]) >= {("cache", "")}
    with pytest.raises(errors.InterfaceConflict, match=f"{A}.*{B}.*cache"):
        made.lookup(model.parse("cache"))
    with pytest.raises(errors.InterfaceConflict):
        made.recipients(model.parse_target("service:cache"))
    assert incarnations(made.lookup(model.parse(f"cache/{B}"))) == [B]
    made.nodes([node(B, offer(interface="other"))])
    assert incarnations(made.lookup(model.parse("cache"))) == [B]


def test_roles_of_different_releases_are_no_conflict_of_a_broadcast():
    made = book(node(A, offer("gateway", kind="role")), node(B, offer("gateway", kind="role", interface="newer")))
    assert [each.incarnation for each in made.recipients(model.parse_target("role:gateway"))] == [A, B]
    for nobody in ("service:gateway", "role:worker"):
        with pytest.raises(errors.UnknownName):
            made.recipients(model.parse_target(nobody))


@pytest.mark.parametrize("target", ["service:cache@acme", f"service:cache/{A}"])
def test_a_broadcast_is_to_all_instances(target):
    with pytest.raises(errors.InvalidName, match="write service:NAME"):
        model.parse_target(target)


def test_an_office_whose_holder_is_not_listed_yet_answers_all_the_same():
    made = book()
    with pytest.raises(errors.UnknownName):
        made.lookup(model.parse("billing@acme"))
    made.offices([office("billing", "north", A, 7)])
    assert made.lookup(model.parse("billing@acme")).epoch == 7
    assert made.nodes([node(A, offer("billing", "one"))]) == {("billing", ""), ("billing", "north"), ("billing", "south")}
    assert made.lookup(model.parse("billing@acme")).idempotent == ("get",)


def test_the_silent_are_named_only_where_there_is_no_other():
    made = book(node(A, offer()), node(B, offer()), node(C, offer("other")))
    assert made.silence({A}) == {("cache", "")}
    assert incarnations(made.lookup(model.parse("cache"))) == [B]
    assert incarnations(made.lookup(model.parse(f"cache/{A}"))) == [A]
    made.silence({A, B})
    assert incarnations(made.lookup(model.parse("cache"))) == [A, B]
    assert made.silence({A, B}) == set()
    assert made.silence(()) == {("cache", "")}


def test_a_label_without_instances_is_known_until_it_is_forgotten():
    made = book(node(A, offer("billing", "one")), node(B, offer()))
    assert made.vacant() == set()
    made.nodes([node(B, offer())])
    assert made.vacant() == {"billing"}
    assert made.lookup(model.parse("billing@acme")).instances == ()
    assert made.forget("cache") == set()
    assert ("billing", "north") in made.forget("billing")
    assert made.forget("billing") == set()
    with pytest.raises(errors.UnknownName):
        made.lookup(model.parse("billing@acme"))


def test_a_label_may_become_another_kind_of_service():
    made = book(node(A, offer("billing", "one")))
    made.offices([office("billing", "north", A, 7)])
    changed = made.nodes([node(A, offer("billing", "all"))])
    assert changed == {("billing", ""), ("billing", "north"), ("billing", "south")}
    assert made.lookup(model.parse("billing@acme")).active == "all"
    with pytest.raises(errors.UnknownName):
        made.answer(("billing", "north"))
    made.nodes([node(A, offer("billing", "one"))])
    with pytest.raises(errors.UnknownName):
        made.answer(("billing", ""))


def test_entries_that_make_no_sense_count_as_absent():
    made = book(node(A, offer()), engine.Entry(f"nodes/{B}", b"{", 1), engine.Entry(f"nodes/{C}", b'{"incarnation":"x"}', 1))
    assert [facts.incarnation for facts in made.present()] == [A]
    wrong = office("billing", "north", A, 7)
    entry = engine.Entry("active/billing.south", wrong.body, 7)
    assert made.offices([entry, engine.Entry("active/cache.north", b"[]", 8)]) == set()


def test_a_node_that_moved_is_found_at_its_new_address():
    made = book(node(A, offer()))
    assert made.nodes([node(A, offer(), host="elsewhere")]) == {("cache", "")}
    assert made.lookup(model.parse("cache")).instances[0].host == "elsewhere"


def test_entries_that_are_no_text_count_as_absent():
    made = book(node(A, offer()), engine.Entry(f"nodes/{B}", b'{"incarnation":"\xff"}', 2, "s"))
    assert incarnations(made.lookup(model.parse("cache"))) == [A]
    assert made.offices([engine.Entry("active/cache.north", b'{"label":"\xff"}', 3, "s")]) == set()


def candidate(label, group, order, incarnation, session=None):
    bid = election.Bid(incarnation, order, f"node-{incarnation}", 3.0)
    path = f"candidates/{label}.{group}.{order:06}.{incarnation}"
    return engine.Entry(path, election.encode(bid), 5, session or f"node-{incarnation}")


def test_names_are_listed_with_who_answers_and_who_stands_by():
    both = [offer("billing", "one"), offer()]
    made = book(node(A, *both), node(B, *both), node(C, *both, offer("node", kind="role"), offer("worker", kind="role")))
    made.offices([office("billing", "north", B, 7)])
    standing = [candidate("billing", "north", order, each) for order, each in enumerate((C, B, A))]
    assert made.candidates([*standing, candidate("billing", "south", 1, A), candidate("billing", "south", 0, "9" * 32)]) == set()
    listed = {each.name: each for each in made.listing()}
    assert list(listed) == ["billing@acme", "billing@initech", "cache", "worker"], "what every node has is no name"
    north, south, cache, worker = listed.values()
    assert (north.group, north.epoch, incarnations(north)) == ("north", 7, [B])
    assert [(each.address.incarnation, each.order) for each in north.standbys] == [(C, 0), (A, 2)]
    assert (south.epoch, south.instances, [each.address.incarnation for each in south.standbys]) == (0, (), [A])
    assert (cache.active, cache.group, incarnations(cache), cache.standbys) == ("all", "", [A, B, C], ())
    assert (cache.kind, worker.kind) == ("service", "role")
    assert [each.name for each in made.listing("billing@i")] == ["billing@initech"]
    assert made.listing("x") == []


def test_a_name_of_the_default_domains_group_is_written_without_a_domain():
    made = book(node(A, offer("billing", "one")), grouping=groups.Groups({"north": ["acme"], "rest": ["."]}))
    made.offices([office("billing", "north", A, 7), office("billing", "rest", A, 8)])
    assert [(each.name, each.group) for each in made.listing()] == [("billing@acme", "north"), ("billing", "rest")]


def test_what_nodes_disagree_about_is_listed_with_the_reason():
    made = book(node(A, offer()), node(B, offer(interface="other")))
    (listed,) = made.listing()
    assert "different interfaces for cache" in listed.conflict and incarnations(listed) == [A, B]


def test_a_label_that_nobody_has_any_more_is_not_listed():
    made = book(node(A, offer()))
    made.nodes([])
    assert made.vacant() == {"cache"} and made.listing() == []
