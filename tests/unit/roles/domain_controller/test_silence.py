"""Who is taken for silent, and what gives everybody more time."""

import msgspec
import pytest

from callboard.roles.domain_controller import silence

S = silence.NS
LIMITS = silence.Limits(lease_seconds=3.0)
A, B = "a" * 32, "b" * 32


def look(at, *, renewed=((A, 7),), took=0.0, wrote=True):
    return silence.Look(began=round((at - took) * S), ended=round(at * S), renewed=dict(renewed), wrote=wrote)


def seen(*looks):
    record = silence.Record()
    for each in looks:
        record = silence.after(record, each, LIMITS)
    return record


def judged(*looks):
    return sorted(silence.ripe(seen(*looks), LIMITS))


def test_whoever_does_not_renew_for_the_lease_has_had_its_time_and_not_before():
    assert judged(look(10), look(11), look(12), look(12.99)) == []
    assert judged(look(10), look(11), look(12), look(13)) == [A]


@pytest.mark.parametrize("sign", [((A, 8),), ()], ids=["a renewal", "no claims"])
def test_a_sign_of_life_starts_the_count_again(sign):
    looks = [look(10), look(11), look(12, renewed=sign)]
    after = [look(13 + each, renewed=sign or ((A, 9),)) for each in range(4)]
    assert judged(*looks, *after[:2]) == []
    assert judged(*looks, *after) == [A]


def test_after_a_gap_between_looks_all_have_half_the_lease_to_come_back():
    assert judged(look(10), look(11.6), look(13)) == []
    assert judged(look(10), look(11.6), look(13), look(13.1)) == [A]
    assert judged(look(10), look(70), look(71), look(71.4)) == []
    assert judged(look(10), look(70), look(71), look(71.5)) == [A]
    assert judged(look(10), look(70, renewed=((A, 8),)), look(71), look(71.5)) == []


def test_a_look_that_failed_is_a_gap_of_any_length():
    record = silence.broken(seen(look(10), look(11), look(12)))
    for at in (12.5, 13.5):
        record = silence.after(record, look(at), LIMITS)
        assert not silence.ripe(record, LIMITS)
    assert silence.ripe_at(record, LIMITS) == 14 * S
    assert silence.ripe(silence.after(record, look(14), LIMITS), LIMITS) == {A}


def test_a_slow_look_counts_from_its_end_to_its_beginning():
    """It may have read the claims at any time between."""
    assert judged(look(10), look(11), look(12), look(13.4, took=0.5)) == []
    assert judged(look(10), look(11), look(12), look(13.4, took=0.4)) == [A]
    assert judged(look(10), look(11), look(12), look(13.6, took=0.4)) == []


def test_each_node_has_a_count_of_its_own():
    both = ((A, 7), (B, 7))
    looks = [look(10), *(look(11 + each, renewed=both) for each in range(3))]
    assert judged(*looks) == [A]
    assert judged(*looks, look(14, renewed=both)) == [A, B]


def test_a_store_that_answers_and_takes_nothing_makes_nobody_silent():
    looks = [look(10 + each, wrote=False) for each in range(10)]
    assert judged(*looks) == []
    assert silence.doubtful(seen(*looks[:2]), looks[2], LIMITS)
    assert not silence.doubtful(seen(looks[0]), looks[1], LIMITS)


def test_what_others_renew_shows_that_it_takes_renewals():
    looks = [look(10 + each, renewed=((A, 7), (B, each)), wrote=False) for each in range(4)]
    assert judged(*looks) == [A]
    assert not silence.doubtful(seen(*looks[:3]), looks[3], LIMITS)


@pytest.mark.parametrize(
    ("presence", "found"),
    [
        ({}, [A]),
        ({"living": {A}}, []),
        ({"answered": {A}}, []),
        ({"listed": {B}}, []),
        ({"living": {B}, "answered": {B}}, [A]),
    ],
    ids=["nobody", "a session", "an agent", "unknown", "others"],
)
def test_coordination_has_its_say(presence, found):
    said = msgspec.structs.replace(silence.Presence(listed={A, B}), **presence)
    assert silence.silent({A}, said) == found


def test_what_is_due_next():
    assert silence.ripe_at(seen(look(10, renewed=())), LIMITS) is None
    record = seen(look(10, renewed=()), look(11), look(12, renewed=((A, 7), (B, 7))))
    assert silence.ripe_at(record, LIMITS) == 14 * S
    later = [look(13 + each, renewed=((A, 7), (B, 7))) for each in range(2)]
    assert silence.ripe_at(seen(look(10, renewed=()), look(11), look(12, renewed=((A, 7), (B, 7))), *later), LIMITS) == 15 * S
