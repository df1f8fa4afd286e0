"""The judge of epochs finds what it is there for."""

from __future__ import annotations

from pathlib import Path

from tests.faults import epochs


def line(epoch: int, at: int, code: str = "", mark: str = "") -> epochs.Line:
    return epochs.Line(at=at, pid=1, epoch=epoch, code=code, mark=mark)


def test_what_is_in_order():
    assert not epochs.faults([])
    assert not epochs.faults([line(2, 10), line(2, 20), line(5, 20), line(5, 30), line(7, 31)])
    assert not epochs.faults([line(5, 30), line(2, 40, code="wrong_epoch"), line(2, 40, mark="what a method was given")])


def test_what_was_accepted_too_late():
    assert epochs.faults([line(5, 1_000), line(2, 2_000), line(2, 3_000)]) == [
        "2 accepted under 2, up to 2e-06 s after one under 5"
    ]
    assert len(epochs.faults([line(7, 10), line(5, 30), line(2, 20)])) == 2


def test_only_what_is_written_from_now_on_counts_and_only_whole_lines(tmp_path: Path):
    file = tmp_path / "ledger"
    assert epochs.Ledger(file).lines() == []
    file.write_bytes(b'{"at":1,"pid":1,"epoch":1}\n')
    ledger = epochs.Ledger(file)
    with file.open("ab") as open_:
        open_.write(b'{"at":2,"pid":1,"epoch":2}\n{"at":3,"pid"')
        open_.flush()
        assert [each.at for each in ledger.lines()] == [2]
        open_.write(b':1,"epoch":2}\n')
    assert [each.at for each in ledger.lines()] == [2, 3] == [each.at for each in ledger.lines()]
