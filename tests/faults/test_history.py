"""The judge must find what it is there for: forged histories, each with one fault."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.history import Final, Mark, judge


def line(what: Any, fence: int = 1, *, run: int = 1, pid: int = 10, at: int = 0) -> Mark:
    return Mark(what=what, id="a", run=run, fence=fence, pid=pid, at=at)


def end(state: str = "completed", fence: int = 1, *, run: int = 1, result: int | None = None, **more: Any) -> Final:
    return Final(id="a", state=state, run=run, fence=fence, result_fence=result or fence, **more)


ONCE = [line("began", at=1), line("ended", at=2)]


def test_a_good_history_has_no_faults():
    verdict = judge(["a"], ONCE, [end()], killed=())
    assert verdict.faults == {} and verdict.repeated == []


def test_a_job_of_a_killed_process_may_begin_again():
    marks = [line("began", at=1), line("began", 2, pid=11, at=3), line("ended", 2, pid=11, at=4)]
    verdict = judge(["a"], marks, [end(fence=2)], killed={10})
    assert verdict.faults == {} and verdict.repeated == ["a"]


def test_a_process_killed_between_the_end_of_a_handler_and_the_commit_is_no_fault():
    marks = [*ONCE, line("began", 2, pid=11, at=3), line("ended", 2, pid=11, at=4)]
    assert judge(["a"], marks, [end(fence=2)], killed={10}).faults == {}


def test_a_process_that_was_frozen_may_end_its_handler_late():
    marks = [line("began", at=1), line("began", 2, pid=11, at=2), line("ended", 2, pid=11, at=3), line("ended", at=4)]
    assert judge(["a"], marks, [end(fence=2)], killed={10}).faults == {}


@pytest.mark.parametrize("over", [True, False], ids=["over elsewhere", "under way elsewhere"])
def test_a_process_that_was_frozen_may_begin_late_what_it_had_claimed(over: bool):
    elsewhere = [line("began", 2, pid=11, at=1), line("ended", 2, pid=11, at=2 if over else 5)]
    marks = [*elsewhere, line("began", at=3), line("left", at=4)]
    assert judge(["a"], marks, [end(fence=2)], killed={10}).faults == {}
    assert judge(["a"], marks, [end(fence=2)], killed=()).faults


def test_a_job_that_was_handed_back_may_begin_again():
    marks = [line("began", at=1), line("left", at=2), line("began", 2, at=3), line("ended", 2, at=4)]
    assert judge(["a"], marks, [end(fence=2)], killed=()).faults == {}


def test_a_person_may_have_it_run_once_more():
    marks = [*ONCE, line("began", 2, run=2, at=3), line("ended", 2, run=2, at=4)]
    assert judge(["a"], marks, [end(fence=2, run=2)], killed=()).faults == {}


@pytest.mark.parametrize(
    ("fault", "marks", "finals", "killed"),
    [
        ("lost", ONCE, [], ()),
        ("unfinished", ONCE, [end("running")], ()),
        ("duplicated", [*ONCE, line("ended", at=3)], [end()], ()),
        ("duplicated", [*ONCE, line("ended", at=3)], [end()], (10,)),
        ("duplicated", [*ONCE, line("began", 2, pid=11, at=3), line("ended", 2, pid=11, at=4)], [end(fence=2)], (11,)),
        ("overlapped", [line("began", at=1), line("began", 2, pid=11, at=2), line("ended", 2, at=3)], [end(fence=2)], (11,)),
        ("regressed", [line("began", 2, at=1), line("began", at=2), line("ended", at=3)], [end()], (10,)),
        ("regressed", [line("began", run=2, at=1), line("began", 2, at=2), line("ended", 2, at=3)], [end(fence=2)], (10,)),
        ("unearned", [line("began", at=1)], [end()], ()),
        ("unearned", ONCE, [end(fence=2)], ()),
        ("unearned", ONCE, [end(result=7)], ()),
        ("unearned", ONCE, [end(errors=[(1, 1)])], ()),
    ],
)
def test_a_fault_is_found(fault: str, marks: list[Mark], finals: list[Final], killed: tuple[int, ...]):
    assert list(judge(["a"], marks, finals, killed).faults) == [fault]
