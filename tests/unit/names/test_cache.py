import asyncio

import pytest

from callboard.names import cache, model
from callboard.rpc import network

A, B, C = (network.Address(f"{n:032x}", "h", n) for n in (1, 2, 3))


def answer(*instances, label="billing", group="main", epoch=1, active="one"):
    return model.Answer(label=label, group=group, active=active, epoch=epoch, instances=instances)


def remember(book, name, given, kept=True):
    return book.remember(cache.key(name, "main"), model.parse(name), given, kept=kept)


def test_names_of_one_seat_share_its_answer():
    book = cache.Cache()
    first = remember(book, "billing@a", answer(A))
    assert remember(book, "billing@b", answer(A)) is first
    book.change([("billing", "main")], [answer(B, epoch=2)])
    assert [book.names[name][0].answer.epoch for name in ("billing@a", "billing@b")] == [2, 2]
    assert [book.names[name][1] for name in ("billing@a", "billing@b")] == ["a", "b"]
    assert book.seats() == [("billing", "main")]
    assert book.facts() == {"names": 2, "seats": 1}


def test_a_seat_that_changed_without_an_answer_must_be_asked_for():
    book = cache.Cache()
    seat = remember(book, "billing", answer(A))
    book.change([("billing", "main"), ("other", "main")], [])
    assert seat.answer is None
    assert seat.next(()) is None


def test_exact_instances_are_forgotten_whenever_their_label_changes():
    book = cache.Cache()
    exact = remember(book, f"cache/{A.incarnation}", answer(A, label="cache", group="", active="all"))
    assert exact is not remember(book, "cache", answer(A, B, label="cache", group="", active="all"))
    book.change([("cache", "")], [answer(B, label="cache", group="", active="all")])
    assert exact.answer is None
    assert book.names["cache"][0].answer.instances == (B,)
    assert book.facts()["seats"] == 1


async def test_whoever_waits_for_a_seat_hears_of_its_change():
    book = cache.Cache()
    seat = remember(book, "billing", answer())
    waiting, left = (asyncio.get_running_loop().create_future() for _ in range(2))
    left.cancel()
    seat.waiting |= {waiting, left}
    book.change([("billing", "main")], [answer(A)])
    assert waiting.done()
    assert not seat.waiting


def test_instances_take_turns_and_the_dead_and_the_tried_are_passed_over():
    seat = cache.Seat("cache", "", "")
    seat.fill(answer(A, B, C))
    assert {seat.next(()) for _ in range(3)} == {A, B, C}
    assert {seat.next({A.incarnation}) for _ in range(4)} == {B, C}
    assert seat.next({A.incarnation}, {B.incarnation, C.incarnation}) == A
    assert seat.next((), {each.incarnation for each in (A, B, C)}) is None


def test_what_nobody_keeps_true_is_dropped():
    book = cache.Cache()
    loose, kept = remember(book, "billing", answer(A), kept=False), remember(book, "other", answer(A, label="other"))
    book.drop_loose()
    assert (loose.answer, kept.answer is not None) == (None, True)
    remember(book, "billing", answer(A), kept=False)
    remember(book, "billing", answer(A), kept=True)
    book.drop_loose()
    assert loose.answer is not None
    book.clear()
    assert book.facts() == {"names": 0, "seats": 0}
    assert loose.answer is None


def test_names_are_bounded_and_the_oldest_go(monkeypatch):
    monkeypatch.setattr(cache, "MOST_NAMES", 16)
    monkeypatch.setattr(cache, "_FEW_NAMES", 14)
    book = cache.Cache()
    for n in range(17):
        remember(book, f"billing@d{n}", answer(A))
    assert len(book.names) == 15
    assert "billing@d0" not in book.names
    assert "billing@d16" in book.names


@pytest.mark.parametrize(("domain", "expected"), [("main", "billing"), ("acme", ("billing", "acme"))])
def test_the_domain_that_was_meant_is_part_of_what_is_remembered(domain, expected):
    assert cache.key("billing", domain) == expected
