"""What errors say."""

from __future__ import annotations

import pytest

from callboard import errors


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        (("discarded", "discarded", "Discard", "nothing to pay"), "discarded: nothing to pay"),
        (("discarded", "discarded", "Discard", ""), "discarded"),
        (("discarded", "attempts_exhausted", "KeyError", "'a'"), "discarded: attempts_exhausted: KeyError: 'a'"),
        (("discarded", "worker_lost", "", "the node died"), "discarded: worker_lost: the node died"),
        (("discarded", None), "discarded"),
        (("cancelled", "cancelled", "KeyError", "'a'"), "cancelled"),
    ],
)
def test_why_a_job_failed(ended: tuple[str, ...], said: str) -> None:
    made = errors.JobFailed.of("17", *ended)
    assert made.message == f"job 17 is {said}"
    assert made.data == {"state": ended[0], "reason": ended[1], "id": "17"}
