"""Who is given up, and above all who is not: judgements on plain values."""

import pytest

from callboard.node import liveness

NS = liveness.NS
LIMITS = liveness.Limits(stopped_seconds=3, silent_seconds=10, stall_seconds=120, start_seconds=60, late_seconds=2)


def verdicts(looks, limits=LIMITS):
    """Return the second of the first verdict and what it says, None when all looks are passed."""
    record = None
    for second, look in looks:
        record, why = liveness.judged(record, liveness.Seen(now=round(second * NS), **look), limits)
        if why:
            return second, why
    return None


def every(step, until, **look):
    count = round(until / step)
    return [(index * step, dict({"state": "S", "tick": 1}, **look)) for index in range(count + 1)]


def test_a_moving_loop_lives():
    looks = [(second, {"state": "S", "tick": second + 1}) for second in range(1000)]
    assert verdicts(looks) is None


def test_stopped_for_three_seconds_is_killed():
    assert verdicts(every(0.5, 10, state="T")) == (3.0, "stopped for 3 s")


def test_stopped_for_a_moment_is_not():
    looks = [(second / 2, {"state": "T" if second % 6 else "S", "tick": second}) for second in range(1, 200)]
    assert verdicts(looks) is None


def test_silent_with_nothing_running_is_killed_after_ten_seconds():
    second, why = verdicts(every(0.5, 30))
    assert second == 10.0 and "nothing runs" in why


def test_silent_behind_a_handler_lives_until_its_deadline():
    second, why = verdicts(every(0.5, 100, running=1, deadline=45 * NS))
    assert second == 45.0 and "deadline" in why


def test_a_passed_deadline_alone_kills_nobody():
    looks = [(second, {"state": "S", "tick": second + 1, "running": 1, "deadline": 5 * NS}) for second in range(100)]
    assert verdicts(looks) is None


def test_a_passed_deadline_counts_only_after_the_silence():
    second, _ = verdicts(every(0.5, 100, running=1, deadline=3 * NS))
    assert second == 10.0


def test_silent_behind_a_handler_without_deadline_lives_for_the_stall_time():
    second, why = verdicts(every(0.5, 200, running=3))
    assert second == 120.0 and "without a deadline" in why


def test_sixty_seconds_in_c_code_are_work():
    looks = [*every(0.5, 60, running=1), (60.5, {"state": "S", "tick": 2})]
    assert verdicts(looks) is None


def test_a_node_that_never_ticked_gets_its_time_to_start():
    second, why = verdicts(every(0.5, 100, tick=0))
    assert second == 60.0 and "not ready" in why


@pytest.mark.parametrize("look", [{"state": "T"}, {"state": "S"}])
def test_a_late_observer_accuses_nobody(look):
    """The machine slept, or the agent was stopped: what was not watched is no evidence."""
    looks = [(second, {"tick": 1, **look}) for second in (0, 1, 500, 501)]
    assert verdicts(looks) is None


def test_after_being_late_all_ages_start_again():
    looks = every(0.5, 8) + [(100 + second, look) for second, look in every(0.5, 30)]
    second, _ = verdicts(looks)
    assert second == 110.0


HOLDING = liveness.Holding(pid=10, started=5, sequence=7)
LOCK = liveness.LockLimits(stopped_seconds=2, held_seconds=10, late_seconds=2)


def held(seconds, state, step=0.25, holding=HOLDING):
    """Return when a holder in this state is given up, None when it is not within `seconds`."""
    record = None
    for index in range(round(seconds / step) + 1):
        record = liveness.watched(record, holding, round(index * step * NS), LOCK)
        if liveness.suspicious(record, LOCK) and (why := liveness.holder_judged(record, state, LOCK)):
            return index * step, why
    return None


@pytest.mark.parametrize("state", ["T", "t"])
def test_a_stopped_holder_is_given_up_after_two_seconds(state):
    second, why = held(60, state)
    assert 2 < second <= 2.25 and "stopped" in why


@pytest.mark.parametrize("state", ["R", "S"])
def test_a_holder_without_progress_is_given_up_after_ten_seconds(state):
    second, why = held(60, state)
    assert 10 < second <= 10.25 and "without progress" in why


def test_a_holder_that_waits_for_the_disk_is_not():
    assert held(60, "D") is None


def test_nobody_is_never_suspicious():
    assert held(60, "T", holding=None) is None


def test_acquisitions_in_turn_are_progress():
    record = None
    for index in range(400):
        holding = liveness.Holding(pid=10, started=5, sequence=index // 4)
        record = liveness.watched(record, holding, index * NS // 4, LOCK)
        assert not liveness.suspicious(record, LOCK)


def test_a_late_lock_watch_begins_again():
    record = liveness.watched(None, HOLDING, 0, LOCK)
    record = liveness.watched(record, HOLDING, 60 * NS, LOCK)
    assert not liveness.suspicious(record, LOCK)
