"""What operations make of a book; all of it is tried on engines by the conformance suite."""

import pytest

from callboard import errors
from callboard.coordination import engine as seam
from callboard.coordination.engines import ledger

BOOK = {"x/a": seam.Entry("x/a", b"1", 4, "node-a"), "x/b": seam.Entry("x/b", b"2", 5)}


def test_what_is_to_be_stored():
    operations = [
        seam.Replace("x/a", b"3", 4, expected=b"1"),
        seam.Remove("x/b", 5),
        seam.Create("x/c", b"4", lasting=True),
        seam.Absent("x/b"),
        seam.Create("x/b", b"5"),
        seam.Check("x/b", 11),
    ]
    assert ledger.apply(BOOK, operations, "node-z", 9) == ledger.Outcome(
        [4, 5, 10, 0, 11, 11],
        {
            "x/a": seam.Entry("x/a", b"3", 4, "node-a"),
            "x/b": seam.Entry("x/b", b"5", 11, "node-z"),
            "x/c": seam.Entry("x/c", b"4", 10),
        },
        11,
    )
    assert ledger.apply(BOOK, [], "node-z", 9) == ledger.Outcome([], {}, 9)


@pytest.mark.parametrize(
    ("operation", "why"),
    [
        (seam.Create("x/a", b""), "x/a is there already, with number 4"),
        (seam.Absent("x/a"), "x/a is there already, with number 4"),
        (seam.Check("x/c", 4), "x/c is gone"),
        (seam.Check("x/a", 5), "x/a has number 4, not 5"),
        (seam.Replace("x/a", b"", 4, expected=b"2"), "x/a has other content than expected"),
    ],
)
def test_a_conflict_says_what_is_there(operation, why):
    with pytest.raises(errors.CoordinationConflict, match=f"^{why}: read again") as caught:
        ledger.apply(BOOK, [seam.Absent("x/z"), operation], "node-z", 9)
    assert caught.value.data == {"path": operation.path, "index": 1}
