"""The judge of what clients saw must find what it is there for: forged histories, each with one fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.servers import chronicle
from tests.faults.servers.chronicle import Acknowledged, Answered, Event, Failed, Term


def made(id: str = "a", created: bool = True) -> Acknowledged:
    return Acknowledged(id=id, asked=1, at=2, created=created)


def answer(epoch: int, asked: int, at: int, *, name: str = "billing", pid: int = 0, mark: str = "") -> Answered:
    return Answered(name=name, pid=pid or epoch, epoch=epoch, asked=asked, at=at, mark=mark)


def failure(mark: str, ran: str) -> Failed:
    return Failed(name="billing", code="deadline_exceeded", ran=ran, asked=1, at=2, mark=mark)


def term(number: int, at: int, of: str = "") -> Term:
    return Term(scope="main", number=number, incarnation=of or str(number), at=at)


def test_a_good_history_has_no_faults(tmp_path: Path):
    events: list[Event] = [
        *(made(), made(created=False), made("b", created=False)),
        *(answer(2, 1, 5), answer(4, 3, 9), answer(2, 4, 8), answer(4, 9, 10), answer(3, 20, 21, name="billing@north")),
        *(answer(4, 30, 31, mark="x"), failure("y", "unknown"), failure("z", "unknown"), failure("w", "no")),
        *(term(1, 1), term(1, 2), term(2, 3), term(2, 4)),
    ]
    assert chronicle.faults(events, ["x", "y"]) == {}
    kept = chronicle.Chronicle(tmp_path / "events")
    for event in events:
        kept.note(event)
    assert chronicle.read(tmp_path / "events") == kept.events == events
    assert kept.of(Term) == events[-4:]


@pytest.mark.parametrize(
    ("fault", "events", "ran"),
    [
        ("made twice", [made(), made()], ()),
        ("went back", [answer(4, 1, 2), answer(2, 3, 4)], ()),
        ("went back", [answer(2, 0, 9), answer(4, 1, 2), answer(5, 3, 4), answer(4, 5, 6)], ()),
        ("two of one epoch", [answer(4, 1, 2), answer(4, 1, 3, pid=9)], ()),
        ("ran wrongly", [answer(4, 1, 2, mark="x")], ("x", "x")),
        ("ran wrongly", [answer(4, 1, 2, mark="x")], ()),
        ("ran wrongly", [failure("x", "no")], ("x",)),
        ("ran wrongly", [failure("x", "unknown")], ("x", "x")),
        ("terms", [term(2, 1), term(1, 2)], ()),
        ("terms", [term(2, 1, "one"), term(2, 2, "another")], ()),
    ],
)
def test_a_fault_is_found(fault: str, events: list[Event], ran: tuple[str, ...]):
    assert list(chronicle.faults(events, ran)) == [fault]
