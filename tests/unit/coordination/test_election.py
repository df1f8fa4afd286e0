"""What is decided about an office, view by view. Histories of whole elections are in `properties/test_election.py`."""

import msgspec
import pytest

from callboard import errors
from callboard.coordination import election
from callboard.coordination import engine as seam

OFFICE = "billing.main"
ACTIVE = f"active/{OFFICE}"
MARK = f"deposed/{OFFICE}"
SECOND = 1_000_000_000


def bid(order, granted=3.0):
    return election.Bid(f"{order:x}", order, f"node-{order:x}", granted)


def me(order, **fields):
    return election.Me(OFFICE, bid(order), b"office of %d" % order, **fields)


def stands(order, number):
    return seam.Entry(me(order).path, election.encode(bid(order)), number, f"node-{order:x}")


def holds(order, number):
    return seam.Entry(ACTIVE, b"office of %d" % order, number, f"node-{order:x}")


def deposed(order, epoch, number, granted=3.0):
    mark = election.Mark(epoch, f"node-{order:x}", granted)
    return seam.Entry(MARK, election.encode(mark), number)


def view(*entries, sessions=()):
    standing, active, marks = ([each for each in entries if each.path.startswith(folder)] for folder in ("cand", "active", "dep"))
    return election.view(OFFICE, standing, active, marks, sessions)


def decide(seen, who, *, now=0, since=0):
    mark = -1 if seen.active else seen.mark[1] if seen.mark else 0
    return election.decide(seen, who, election.Vacancy(mark, since), now)


def test_first_one_stands():
    assert decide(view(), me(1)) == election.Apply((seam.Create("candidates/billing.main.000001.1", election.encode(bid(1))),))


def test_the_best_takes_a_vacant_office_guarded_by_what_it_saw():
    seen = view(stands(2, 4), stands(1, 5))
    assert decide(seen, me(1)) == election.Take(
        (seam.Absent(ACTIVE), seam.Check(me(1).path, 5), seam.Absent(MARK), seam.Create(ACTIVE, b"office of 1"))
    )


def test_the_others_wait_for_their_turn():
    """Each candidate that is better has a third of the granted time."""
    seen = view(stands(1, 4), stands(2, 5), stands(3, 6))
    assert decide(seen, me(3), since=10) == election.Wait(10 + 2 * SECOND)
    assert isinstance(decide(seen, me(3), now=10 + 2 * SECOND, since=10), election.Take)


def test_equal_orders_are_decided_by_incarnation():
    seen = view(
        *(seam.Entry(f"candidates/billing.main.000001.{x}", election.encode(election.Bid(x, 1, x, 3.0)), 5, x) for x in "ba")
    )
    assert [each.bid.incarnation for each in seen.candidates] == ["a", "b"]


def test_a_holder_goes_on():
    assert decide(view(stands(1, 4), holds(1, 5)), me(1, epoch=5)) == election.Wait()


@pytest.mark.parametrize("other", [(), (holds(2, 9),), (holds(1, 9),)])
def test_a_holder_without_its_entry_has_lost(other):
    assert decide(view(stands(1, 4), *other), me(1, epoch=5)) == election.Lost()


def test_an_office_that_was_taken_unawares_is_confirmed_first():
    """The answer to taking it was lost."""
    assert decide(view(stands(1, 4), holds(1, 5)), me(1)) == election.Take((seam.Check(ACTIVE, 5),))


def test_a_holder_gives_way_to_a_better_one_that_stood_up_since():
    seen = view(stands(2, 4), holds(2, 5), stands(1, 6))
    assert decide(seen, me(2, epoch=5)) == election.HandOver((seam.Remove(ACTIVE, 5),))
    assert decide(seen, me(2, epoch=5, preempt=False)) == election.Wait()


def test_a_holder_does_not_give_way_to_one_that_it_passed_over():
    """That one was silent when it was its turn. It stands anew to be preferred."""
    seen = view(stands(2, 4), holds(2, 5), stands(1, 3))
    assert decide(seen, me(2, epoch=5)) == election.Wait()
    again = election.Apply((seam.Remove(me(1).path, 3), seam.Create(me(1).path, election.encode(bid(1)))))
    assert decide(seen, me(1)) == again
    assert decide(seen, me(1, preempt=False)) == election.Wait()


def test_the_deposed_one_acknowledges_before_anything_else():
    seen = view(stands(2, 4), deposed(1, 5, 6), sessions={"node-1", "node-2"})
    assert decide(seen, me(1)) == election.Apply((seam.Remove(MARK, 6),), deposed=True)


@pytest.mark.parametrize(("sessions", "seconds"), [({"node-1", "node-2"}, 2.1), ({"node-2"}, 0)])
def test_a_successor_waits_for_a_little_over_two_thirds_or_until_the_session_is_gone(sessions, seconds):
    seen = view(stands(2, 4), deposed(1, 5, 6), sessions=sessions)
    if seconds:
        assert decide(seen, me(2), since=7) == election.Wait(7 + round(2.1 * SECOND))
    taken = decide(seen, me(2), now=7 + round(seconds * SECOND), since=7)
    assert isinstance(taken, election.Take) and seam.Remove(MARK, 6) in taken.operations


def test_a_mark_that_makes_no_sense_is_waited_for():
    seen = view(stands(2, 4), seam.Entry(MARK, b"?", 6), sessions={"node-2"})
    assert decide(seen, me(2)) == election.Wait(round(2.1 * SECOND))


def test_candidates_that_make_no_sense_or_belong_to_others_do_not_count():
    foreign = msgspec.structs.replace(stands(1, 4), session="node-9")
    assert view(foreign, seam.Entry("candidates/billing.main.000000.x", b"?", 3, "x")).candidates == ()


def test_offices_whose_names_begin_alike_are_apart():
    other = seam.Entry("candidates/billing.main2.000001.1", election.encode(bid(1)), 4, "node-1")
    assert view(other).candidates == ()


def test_one_that_must_not_stand_yet_gives_up_what_it_has():
    late = me(1, stands_from=9)
    assert decide(view(), late, now=3) == election.Wait(9)
    removed = election.HandOver((seam.Remove(ACTIVE, 5), seam.Remove(me(1).path, 4)))
    assert decide(view(stands(1, 4), holds(1, 5)), late, now=3) == removed


def test_an_observer_remembers_since_when_an_office_is_vacant():
    vacant, marked, held = view(), view(deposed(1, 5, 6)), view(holds(1, 5))
    assert election.look(election.Vacancy(), vacant, 3) == election.Vacancy(0, 3)
    assert election.look(election.Vacancy(0, 3), vacant, 9) == election.Vacancy(0, 3)
    assert election.look(election.Vacancy(0, 3), marked, 9) == election.Vacancy(6, 9)
    assert election.look(election.Vacancy(6, 9), held, 10).mark == -1


def test_a_deposition_removes_both_entries_and_leaves_a_mark():
    seen = view(stands(1, 4), holds(1, 5), stands(2, 6))
    mark = election.encode(election.Mark(5, "node-1", 3.0))
    wanted = [seam.Remove(ACTIVE, 5), seam.Remove(me(1).path, 4), seam.Create(MARK, mark, lasting=True)]
    assert election.deposition(seen, OFFICE, 5, 1.0) == wanted


@pytest.mark.parametrize("entries", [(), (holds(1, 6),), (stands(1, 4),)])
def test_an_epoch_that_is_over_cannot_be_deposed(entries):
    with pytest.raises(errors.CoordinationConflict, match=r"epoch 5 of .* is over"):
        election.deposition(view(*entries), OFFICE, 5, 1.0)


def test_names_of_offices_are_labels():
    assert election.office("billing", "main") == "billing.main"
    with pytest.raises(errors.InvalidName):
        election.office("billing", "a.b")


def test_entries_that_are_no_text_make_no_sense():
    noise = b'{"incarnation":"\xff","session":"\xff"}'
    seen = view(seam.Entry(f"candidates/{OFFICE}.000001.a", noise, 1, "node-a"), seam.Entry(MARK, noise, 2))
    assert seen.candidates == () and seen.mark == (election.Mark(0, "", 0.0), 2)


def test_a_holder_that_steps_back_stands_behind_the_others_in_the_step_that_leaves_the_office():
    seen = view(stands(1, 4), holds(1, 5), stands(2, 6))
    back = msgspec.structs.replace(me(1, epoch=5), bid=msgspec.structs.replace(bid(1), order=3))
    stands_again = seam.Create("candidates/billing.main.000003.1", election.encode(back.bid))
    assert decide(seen, back) == election.HandOver((seam.Remove(ACTIVE, 5), seam.Remove(me(1).path, 4), stands_again))


def test_one_that_stands_by_and_steps_back_only_stands_elsewhere():
    seen = view(stands(1, 4), stands(2, 6), holds(2, 7))
    back = msgspec.structs.replace(me(1), bid=msgspec.structs.replace(bid(1), order=3))
    stands_again = seam.Create("candidates/billing.main.000003.1", election.encode(back.bid))
    assert decide(seen, back) == election.Apply((seam.Remove(me(1).path, 4), stands_again))


def test_one_that_must_not_stand_yet_gives_up_where_it_stood_before_it_stepped_back():
    late = msgspec.structs.replace(me(1, stands_from=9), bid=msgspec.structs.replace(bid(1), order=3))
    assert decide(view(stands(1, 4)), late, now=3) == election.HandOver((seam.Remove(me(1).path, 4),))


def test_who_stands_for_which_office_is_told_the_best_first():
    other = seam.Entry("candidates/cache.main.000001.1", election.encode(bid(1)), 7, "node-1")
    foreign = msgspec.structs.replace(stands(3, 4), session="node-9")
    found = election.candidates([stands(2, 4), other, stands(1, 5), foreign])
    assert {office: [each.bid.order for each in standing] for office, standing in found.items()} == {
        OFFICE: [1, 2],
        "cache.main": [1],
    }
