import pytest

from callboard import errors
from callboard.kit import ring

MEMBERS = [f"cache/{n:032x}" for n in range(8)]


def test_the_choice_is_the_same_on_every_machine():
    assert ring.pick("job-1", MEMBERS) == "cache/00000000000000000000000000000002"
    assert ring.order("job-1", MEMBERS)[0] == ring.pick("job-1", MEMBERS)


def test_keys_are_spread_over_all_members():
    counts = dict.fromkeys(MEMBERS, 0)
    for n in range(4000):
        counts[ring.pick(f"key-{n}", MEMBERS)] += 1
    assert min(counts.values()) > 400
    assert max(counts.values()) < 600


def test_a_key_and_a_member_do_not_run_into_each_other():
    assert ring.order("ab", ["c", "d"]) != ring.order("a", ["bc", "bd"])


def test_a_bounded_choice_passes_over_members_that_have_more_than_their_share():
    first, second = ring.order("key", ["a", "b", "c"])[:2]
    assert ring.pick_bounded("key", {"a": 0, "b": 0, "c": 0}) == first
    assert ring.pick_bounded("key", {"a": 2, "b": 2, "c": 2} | {first: 4}) == second


def test_nobody_to_choose_from_is_an_error():
    with pytest.raises(errors.InvalidInput):
        ring.pick("key", [])
    with pytest.raises(errors.InvalidInput):
        ring.pick_bounded("key", {})
    with pytest.raises(errors.InvalidInput):
        ring.pick_bounded("key", {"a": 0}, bound=0.5)
    assert ring.order("key", []) == []
