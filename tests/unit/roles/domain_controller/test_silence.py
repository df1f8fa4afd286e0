"""Who is taken for silent, and when the count starts again."""

import pytest

from callboard.roles.domain_controller import silence

S = silence.NS
LIMITS = silence.Limits(lease_seconds=3.0, gap_seconds=2.0)
A, B = "a" * 32, "b" * 32


def look(at, *, living=(), answered=(), listed=(A,), renewed=((A, 7),), took=0.0):
    return silence.Look(
        began=round((at - took) * S),
        ended=round(at * S),
        living=frozenset(living),
        answered=frozenset(answered),
        listed=frozenset(listed),
        renewed=dict(renewed),
    )


def judged(*looks):
    record = silence.Record()
    for each in looks:
        record = silence.after(record, each, LIMITS)
    return silence.silent(record, looks[-1], LIMITS)


def test_whoever_is_quiet_for_the_lease_is_silent_and_not_before():
    assert judged(look(10), look(11), look(12.99)) == []
    assert judged(look(10), look(11), look(13)) == [A]


@pytest.mark.parametrize(
    "sign",
    [
        {"living": (A,)},
        {"answered": (A,)},
        {"renewed": ((A, 8),)},
        {"renewed": ()},
        {"listed": ()},
    ],
    ids=["a session", "an agent", "a renewal", "no claims", "unknown"],
)
def test_any_sign_of_life_starts_the_count_again(sign):
    assert judged(look(10), look(11), look(12, **sign), look(13)) == []
    assert judged(look(10), look(11), look(12, **sign), look(13), look(14), look(15.9), look(16)) == [A]


def test_a_renewal_that_is_seen_stays_the_one_that_counts():
    assert judged(look(10), look(11, renewed=((A, 8),)), look(12, renewed=((A, 8),)), look(13.9, renewed=((A, 8),))) == []
    assert judged(look(10), *(look(11 + each, renewed=((A, 8),)) for each in range(4))) == [A]


def test_a_gap_between_looks_starts_all_counts_again():
    assert judged(look(10), look(12.1), look(14)) == []
    assert judged(look(10), look(12.1), look(14), look(15.2)) == [A]


def test_a_slow_look_counts_from_its_end_to_its_beginning():
    """It may have read the claims at any time between."""
    assert judged(look(10), look(11), look(13.5, took=1)) == []
    assert judged(look(10), look(11.5), look(13.5, took=0.5)) == [A]


def test_each_node_has_a_count_of_its_own():
    both = {"listed": (A, B), "renewed": ((A, 7), (B, 7))}
    looks = [look(10), look(11, **both), look(12, **both), look(13, **both)]
    assert judged(*looks) == [A]
    assert judged(*looks, look(14, **both)) == [A, B]


def test_what_is_due_next():
    record = silence.after(silence.Record(), look(10, renewed=()), LIMITS)
    assert silence.ripe_at(record, LIMITS) is None
    assert silence.ripe_at(silence.after(record, look(11), LIMITS), LIMITS) == 14 * S
