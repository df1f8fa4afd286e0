import pytest

from callboard import errors
from callboard.names import groups


def test_the_longest_match_decides():
    grouping = groups.Groups.parse(["north=acme", "south=.", "west=initech", "west=west.acme", "north=a.west.acme"])
    assert {domain: grouping.of(domain) for domain in ("acme", "team.acme", "west.acme", "x.west.acme", "b.a.west.acme")} == {
        "acme": "north",
        "team.acme": "north",
        "west.acme": "west",
        "x.west.acme": "west",
        "b.a.west.acme": "north",
    }
    assert (grouping.of("initech"), grouping.of("main"), grouping.of("acme.org"), grouping.of("notacme")) == (
        "west",
        "south",
        "south",
        "south",
    )
    assert grouping.names == ("north", "south", "west")
    assert grouping.domain_of("billing", "south") == "."
    assert grouping.of(grouping.domain_of("billing", "west")) == "west"
    assert grouping.domain_of("billing", "east") is None


def test_a_domain_that_no_group_serves_is_named_with_the_groups():
    grouping = groups.Groups({"north": ["acme"], "west": ["initech"]})
    with pytest.raises(errors.DomainNotServed, match=r"globex.*north, west") as caught:
        grouping.of("globex")
    assert caught.value.data == {"ran": "no", "groups": ["north", "west"]}


def test_by_default_one_group_serves_everything():
    assert groups.Groups().of("any.where") == "main"


def test_the_digest_is_the_same_for_the_same_mapping():
    one = groups.Groups.parse(["south=.", "north=acme", "north=initech"])
    assert one.digest() == groups.Groups.parse(["north=initech", "north=acme", "south=."]).digest()
    assert one.digest() != groups.Groups.parse(["south=.", "south=acme", "north=initech"]).digest()


@pytest.mark.parametrize("texts", [["north"], ["north=acme", "south=acme"]])
def test_what_is_no_mapping_is_refused(texts):
    with pytest.raises(errors.InvalidSetting):
        groups.Groups.parse(texts)


@pytest.mark.parametrize("text", ["North=acme", "north=Acme", "north=", "=acme"])
def test_names_outside_the_grammar_are_refused(text):
    with pytest.raises(errors.InvalidName):
        groups.Groups.parse([text])


def test_a_hundred_thousand_domains_are_found_as_fast_as_one():
    grouping = groups.Groups({f"g{n}": [f"d{n}-{m}.acme" for m in range(1000)] for n in range(100)})
    assert grouping.of("a.b.d7-123.acme") == "g7"
    with pytest.raises(errors.DomainNotServed) as caught:
        grouping.of("acme")
    assert len(caught.value.data["groups"]) == 20
