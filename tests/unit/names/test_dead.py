import itertools

from callboard.names import dead
from callboard.rpc import network

A, B = (network.Address(f"{n:032x}", "h", n) for n in (1, 2))


def test_the_dead_are_due_again_after_longer_and_longer():
    book = dead.Dead(lambda: 0.5)
    book.add(A, 0.0)
    assert A.incarnation in book
    assert B.incarnation not in book
    assert book.due(0.4) == []
    assert book.due(0.5) == [A]
    assert book.due(0.6) == []
    times = []
    now = 0.6
    while now < 100:
        if book.due(now):
            times.append(now)
        now += 0.1
    gaps = [round(later - sooner, 3) for sooner, later in itertools.pairwise(times)]
    assert gaps == sorted(gaps)
    assert 14 < gaps[-1] < 16


def test_one_that_answers_is_not_dead_any_more():
    book = dead.Dead()
    book.add(A, 0.0)
    book.discard(A.incarnation)
    book.discard(A.incarnation)
    assert len(book) == 0


def test_those_that_nobody_tries_are_forgotten_and_all_are_bounded(monkeypatch):
    book = dead.Dead()
    book.add(A, 0.0)
    book.add(B, 0.0)
    book.add(B, 200.0)
    book.due(301.0)
    assert (A.incarnation in book, B.incarnation in book) == (False, True)
    monkeypatch.setattr(dead, "MOST", 1)
    book.add(A, 302.0)
    assert (A.incarnation in book, B.incarnation in book) == (True, False)
