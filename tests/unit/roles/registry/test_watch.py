from callboard.roles.registry import watch

NS = 1_000_000_000
LIMITS = watch.Limits()


def _told(*heard, step=NS // 2):
    record, now = watch.Record(), 0
    for each in heard:
        now += step
        record = watch.judged(record, each, now)
    return watch.suspicion(record, now, LIMITS)


def test_two_pings_in_a_row_without_an_answer_make_suspect():
    assert not _told("nothing")
    assert _told("nothing", "nothing")
    assert _told("absent", "nothing")
    assert not _told("nothing", "held", "nothing")
    assert not _told("nothing", "waiting", "nothing")


def test_whoever_answers_and_does_not_serve_has_a_minute():
    assert not _told(*["waiting"] * 119)
    assert "60 s" in _told(*["waiting"] * 121)
    assert not _told(*["waiting"] * 119, "held", *["waiting"] * 50)


def test_a_timer_is_late_when_it_rings_more_than_a_period_after_its_time():
    assert not watch.late(10 * NS, 10 * NS + NS // 2, LIMITS)
    assert watch.late(10 * NS, 10 * NS + NS // 2 + 1, LIMITS)
