"""Properties of rendezvous hashing."""

import math

from hypothesis import given
from hypothesis import strategies as st

from callboard.kit import ring

names = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=12, unique=True)


@given(st.text(), names, st.randoms())
def test_the_order_of_the_list_does_not_matter(key, members, chance):
    shuffled = members[:]
    chance.shuffle(shuffled)
    assert ring.order(key, members) == ring.order(key, shuffled)
    assert ring.pick(key, members) == ring.pick(key, shuffled) == ring.order(key, members)[0]


@given(st.text(), names, st.data())
def test_only_the_keys_of_a_member_that_leaves_move(key, members, data):
    gone = data.draw(st.sampled_from(members))
    left = [member for member in ring.order(key, members) if member != gone]
    assert ring.order(key, [member for member in members if member != gone]) == left


@given(names, st.lists(st.text(max_size=6), max_size=60), st.floats(1.0, 3.0))
def test_nobody_gets_more_than_its_bounded_share(members, keys, bound):
    loads = dict.fromkeys(members, 0)
    for taken, key in enumerate(keys, 1):
        loads[ring.pick_bounded(key, loads, bound)] += 1
        assert max(loads.values()) <= math.ceil(bound * taken / len(members))
