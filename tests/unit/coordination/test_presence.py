"""Entries that are kept true, and offices that are taken and left in order. Elections as such: the conformance suite."""

import asyncio
import itertools
import statistics

import pytest

from callboard import errors
from callboard.coordination import election
from callboard.coordination import engine as seam


class Duty:
    """What an instance does in office, step by step."""

    def __init__(self):
        self.told = []
        self.may_begin = asyncio.Event()
        self.may_begin.set()
        self.may_leave = asyncio.Event()
        self.may_leave.set()
        self.fails = 0

    async def taken(self, epoch):
        self.told.append(epoch)
        await self.may_begin.wait()
        if self.fails:
            self.fails -= 1
            raise ValueError("cannot begin")

    async def left(self):
        self.told.append("left")
        await self.may_leave.wait()

    def stand(self, presence, order=1, *, preempt=True):
        body = presence.session.name.encode()
        return presence.stand("billing", "main", order, body, preempt=preempt, taken=self.taken, left=self.left)

    def stand_for(self, presence, label):
        return presence.stand(label, "main", 1, b"", preempt=True, taken=self.taken, left=self.left)


def deaf(session):
    """Word of changes comes late here, as it may: long after the answers to what this session asks itself."""
    tell = session._watches.tell
    session._watches.tell = lambda folders: asyncio.get_running_loop().call_later(0.3, tell, folders)


@pytest.fixture
def duty():
    return Duty()


async def test_an_entry_is_declared_changed_and_withdrawn(ground):
    presence = await ground.presence("node-a")
    await presence.declare("nodes/a", b"1")
    number = ground.site.entries["nodes/a"].number
    await presence.declare("nodes/a", b"2")
    assert ground.site.entries["nodes/a"] == seam.Entry("nodes/a", b"2", number, "node-a")
    await presence.withdraw("nodes/a")
    await presence.withdraw("nodes/a")
    await presence.withdraw("nodes/never")
    assert ground.paths() == []


async def test_an_entry_is_made_again_when_it_or_its_session_is_gone(ground, eventually):
    presence, other = await ground.presence("node-a"), await ground.session("node-b")
    await presence.declare("nodes/a", b"1")
    first = ground.site.entries["nodes/a"].number
    await other.apply([seam.Remove("nodes/a", first)])
    await eventually(lambda: "nodes/a" in ground.site.entries)
    second = ground.site.entries["nodes/a"].number
    await other.end("node-a")
    await eventually(lambda: ground.paths() == ["nodes/a"])
    assert first < second < ground.site.entries["nodes/a"].number


async def test_what_cannot_be_said_now_is_said_later(ground, eventually):
    presence = await ground.presence("node-a")
    await presence.declare("nodes/old", b"1")
    presence.wire.open = False
    await presence.declare("nodes/a", b"1")
    await presence.declare("nodes/a", b"2")
    await presence.withdraw("nodes/old")
    assert ground.paths() == ["nodes/old"]
    presence.wire.open = True
    await eventually(lambda: ground.paths() == ["nodes/a"] and ground.site.entries["nodes/a"].body == b"2")


async def test_what_another_session_left_at_the_path_is_replaced(ground):
    presence, other = await ground.presence("node-a"), await ground.session("node-b")
    await other.apply([seam.Create("nodes/a", b"foreign")])
    await presence.declare("nodes/a", b"mine")
    assert (ground.site.entries["nodes/a"].body, ground.site.entries["nodes/a"].session) == (b"mine", "node-a")


async def test_confirmations_go_on_and_bound_what_is_safe(ground, eventually):
    presence = await ground.presence("node-a")
    await presence.declare("nodes/a", b"1")
    await eventually(lambda: presence.safe_until)
    before = presence.safe_until
    assert before <= ground.clock.boot() + round(presence.session.granted_seconds * election.SAFE_SHARE * 1e9)
    await eventually(lambda: presence.safe_until > before)


async def test_nothing_is_accepted_before_and_after_office(ground, duty, eventually):
    presence = await ground.presence("node-a")
    standing = duty.stand(presence)
    assert (standing.epoch, standing.accepts(0)) == (0, False)
    await eventually(lambda: standing.accepts(ground.clock.boot()))
    epoch = standing.epoch
    assert ground.site.entries["active/billing.main"].number == epoch
    await standing.withdraw()
    assert (standing.epoch, standing.accepts(0), duty.told, ground.paths()) == (0, False, [epoch, "left"], [])
    assert standing.over


async def test_withdrawing_does_not_wait_for_coordination(ground, duty, eventually):
    presence = await ground.presence("node-a")
    standing = duty.stand(presence)
    await eventually(lambda: standing.epoch)
    presence.wire.open = False
    await standing.withdraw()
    assert duty.told[1:] == ["left"] and not standing.over
    presence.wire.open = True
    await eventually(lambda: ground.paths() == [] and standing.over)


async def test_an_instance_that_cannot_begin_lets_another_one_try(ground, duty, eventually):
    one, two = await ground.presence("node-a"), await ground.presence("node-b")
    duty.fails = 1
    standing, other = duty.stand(one, 1), Duty()
    await eventually(lambda: duty.told)
    second = other.stand(two, 2)
    await eventually(lambda: second.epoch)
    assert duty.told[1:2] == ["left"] and standing.epoch == 0
    await eventually(lambda: standing.epoch > second.epoch and duty.told[2:])  # It stands again later, and is preferred.
    assert duty.told[2:] == [standing.epoch]


async def test_beginning_is_cut_off_when_the_office_is_lost_meanwhile(ground, duty, eventually):
    presence, other = await ground.presence("node-a"), await ground.session("node-b")
    duty.may_begin.clear()
    standing = duty.stand(presence)
    await eventually(lambda: standing.epoch)
    first = standing.epoch
    await other.end("node-a")
    await eventually(lambda: len(duty.told) == 3 and standing.epoch > first)
    assert duty.told == [first, "left", standing.epoch]


async def test_the_office_is_given_up_only_after_it_was_left(ground, duty, eventually):
    presence, better = await ground.presence("node-a"), await ground.presence("node-b")
    standing = duty.stand(presence, 2)
    await eventually(lambda: duty.told)
    first = standing.epoch
    duty.may_leave.clear()
    taking = Duty().stand(better, 1)
    await eventually(lambda: duty.told[-1] == "left")
    assert (taking.epoch, ground.site.entries["active/billing.main"].number) == (0, first)
    assert standing.accepts(ground.clock.boot())  # What runs may still answer: nobody else can be active.
    duty.may_leave.set()
    await eventually(lambda: taking.epoch > first)
    assert standing.epoch == 0


async def test_leaving_is_cut_off_after_the_granted_time(ground, duty, eventually):
    presence, better = await ground.presence("node-a"), await ground.presence("node-b")
    standing = duty.stand(presence, 2)
    await eventually(lambda: standing.epoch)
    duty.may_leave.clear()
    taking = Duty().stand(better, 1)
    await eventually(lambda: taking.epoch)


async def test_a_lost_office_is_noticed_by_the_next_confirmation_at_the_latest(ground, duty, eventually):
    presence, other = await ground.presence("node-a"), await ground.session("node-b")
    standing = duty.stand(presence)
    await eventually(lambda: standing.epoch)
    first = standing.epoch
    await other.apply([seam.Remove("active/billing.main", first)])
    await presence.confirm()
    assert not standing.accepts(ground.clock.boot())
    await eventually(lambda: standing.epoch > first)


async def test_a_favourite_that_sleeps_is_passed_over_and_preferred_when_it_wakes(ground, duty, eventually):
    sleeper = await ground.session("node-s")
    bid = election.Bid("s", 0, "node-s", 0.6)
    path = election.Me("billing.main", bid, b"").path
    await sleeper.apply([seam.Create(path, election.encode(bid))])
    presence = await ground.presence("node-a")
    standing = duty.stand(presence)
    await eventually(lambda: standing.epoch)
    first = standing.epoch
    await sleeper.close()
    awake = await ground.presence("node-s")
    favourite = Duty().stand(awake, 0)
    await eventually(lambda: favourite.epoch > first)


async def test_stopping_leaves_the_office(ground, duty, eventually):
    presence = await ground.presence("node-a")
    standing = duty.stand(presence)
    await eventually(lambda: standing.epoch)
    epoch = standing.epoch
    await presence.stop()
    await presence.stop()
    assert (duty.told, standing.epoch) == ([epoch, "left"], 0)
    await standing.withdraw()


async def test_a_deposed_instance_stands_again_after_a_while(ground, duty, eventually):
    presence, judge = await ground.presence("node-a"), await ground.session("node-b")
    standing = duty.stand(presence)
    await eventually(lambda: standing.epoch)
    first = standing.epoch
    await election.depose(judge, "billing", "main", first)
    await eventually(lambda: standing.epoch == 0 and ground.paths() == [])
    await eventually(lambda: len(duty.told) == 3)
    assert duty.told == [first, "left", standing.epoch] and standing.epoch > first


async def test_what_makes_no_sense_is_refused(ground, duty, eventually):
    presence = await ground.presence("node-a")
    with pytest.raises(errors.InvalidInput, match="order 1000000"):
        duty.stand(presence, 1_000_000)
    standing = duty.stand(presence)
    with pytest.raises(errors.InvalidInput, match="this process stands for"):
        duty.stand(presence)
    await standing.withdraw()
    await duty.stand(presence).withdraw()


async def test_what_fails_in_leaving_keeps_nobody_from_following(ground, duty, eventually):
    async def fail():
        raise ValueError("cannot leave")

    presence, better = await ground.presence("node-a"), await ground.presence("node-b")
    standing = presence.stand("billing", "main", 2, b"", preempt=True, taken=duty.taken, left=fail)
    await eventually(lambda: standing.epoch)
    taking = Duty().stand(better, 1)
    await eventually(lambda: taking.epoch)


async def test_offices_taken_side_by_side_are_not_believed_lost(ground, eventually):
    """What one of them reads while the other one's taking is on its way there is read again by that one."""
    presence = await ground.presence("node-a")
    duties = [Duty() for _ in range(6)]
    deaf(presence.session)
    apply, taking = presence.session.apply, asyncio.Semaphore(1)

    async def slowly(operations):
        async with taking:
            await asyncio.sleep(0.01)
            return await apply(operations)

    presence.session.apply = slowly
    standings = [each.stand_for(presence, f"billing{number}") for number, each in enumerate(duties)]
    await eventually(lambda: all(each.epoch for each in standings))
    await asyncio.gather(*(presence.board.view(each.office) for each in standings))
    await eventually(lambda: all(each.told for each in duties))
    assert [each.told for each in duties] == [[each.epoch] for each in standings]


async def test_an_instance_whose_beginning_was_cancelled_from_inside_lets_another_one_try(ground, duty, eventually):
    one, two = await ground.presence("node-a"), await ground.presence("node-b")

    async def taken(epoch):
        duty.told.append(epoch)
        raise asyncio.CancelledError

    standing = one.stand("billing", "main", 1, b"", preempt=False, taken=taken, left=duty.left)
    await eventually(lambda: duty.told)
    second = Duty().stand(two, 2, preempt=False)
    await eventually(lambda: second.epoch)
    assert standing.epoch == 0


async def test_slow_round_trips_are_confirmed_as_often_as_an_office_needs_it(ground, duty, eventually):
    """Each confirmation counts from when it was sent: the next one must not wait for as long again after its answer."""
    presence = await ground.presence("node-a")
    standing = duty.stand(presence)
    await eventually(lambda: standing.epoch)
    apply, asked = presence.session.apply, []

    async def slowly(operations):
        asked.append(ground.clock.boot())
        await asyncio.sleep(0.15)
        return await apply(operations)

    presence.session.apply = slowly
    await eventually(lambda: len(asked) >= 7)
    gaps = [(after - before) / 1e9 for before, after in itertools.pairwise(asked[1:])]
    assert statistics.median(gaps) < 0.15 + presence.session.granted_seconds / 12


async def test_what_coordination_refuses_for_a_while_is_tried_again(ground, duty, eventually):
    presence = await ground.presence("node-a")
    standing = duty.stand(presence)
    await eventually(lambda: standing.epoch)
    apply, refused = presence.session.apply, []

    async def refuse(operations):
        refused.append(operations)
        raise errors.CoordinationError("refused: look at the access rules")

    presence.session.apply = refuse
    await presence.declare("nodes/a", b"1")
    other = Duty().stand_for(presence, "cache")
    await eventually(lambda: len(refused) > 4 and not standing.accepts(ground.clock.boot()))
    presence.session.apply = apply
    await eventually(lambda: standing.accepts(ground.clock.boot()) and other.epoch and "nodes/a" in ground.site.entries)


async def test_one_that_steps_back_hands_over_gently_and_stays_behind(ground, duty, eventually, monkeypatch):
    """What runs may still answer while it leaves; the next one takes the office at once, and is not disturbed."""
    monkeypatch.setattr(election, "TURN_SHARE", 5.0)
    one, two = await ground.presence("node-a"), await ground.presence("node-b")
    standing, other = duty.stand(one, 1), Duty()
    await eventually(lambda: duty.told == [standing.epoch])
    first, second = standing.epoch, other.stand(two, 2)
    await eventually(lambda: len([path for path in ground.paths() if path.startswith("candidates/")]) == 2)
    duty.may_leave.clear()
    standing.step_back(3)
    await eventually(lambda: duty.told == [first, "left"])
    assert standing.accepts(ground.clock.boot()) and not second.epoch
    duty.may_leave.set()
    began = ground.clock.boot()
    await eventually(lambda: other.told == [second.epoch])
    assert ground.clock.boot() - began < election.TURN_SHARE * one.session.granted_seconds * 1e9, "it had to wait for its turn"
    assert second.epoch > first and not standing.epoch
    late = second.safe_until + 2e9 * one.session.granted_seconds
    await eventually(lambda: second.safe_until > late)
    assert other.told == [second.epoch] and duty.told == [first, "left"]


async def test_one_that_stepped_back_follows_as_soon_as_the_others_are_gone(ground, duty, eventually):
    one, two = await ground.presence("node-a"), await ground.presence("node-b")
    standing, other = duty.stand(one, 1), Duty()
    await eventually(lambda: standing.epoch)
    second = other.stand(two, 2)
    await eventually(lambda: len([path for path in ground.paths() if path.startswith("candidates/")]) == 2)
    standing.step_back(3)
    await eventually(lambda: second.epoch)
    epoch, began = second.epoch, ground.clock.boot()
    await two.session.close()
    await eventually(lambda: standing.epoch > epoch)
    assert ground.clock.boot() - began < 0.5e9


async def test_one_that_steps_back_to_where_it_stands_goes_further(ground, duty, eventually):
    presence = await ground.presence("node-a")
    standing = duty.stand(presence, 5)
    await eventually(lambda: standing.epoch)
    first = standing.epoch
    standing.step_back(2)
    await eventually(lambda: standing.epoch > first)
    assert "candidates/billing.main.000006.a" in ground.paths()
    standing.step_back(election.MAX_ORDER)
    with pytest.raises(errors.StateRefused, match="behind order 999999"):
        standing.step_back(1)


async def test_a_standing_is_found_by_its_office(ground, duty):
    presence = await ground.presence("node-a")
    standing = duty.stand(presence)
    assert presence.standing("billing", "main") is standing
    assert presence.standing("billing", "north") is None
    await standing.withdraw()
    assert presence.standing("billing", "main") is None
