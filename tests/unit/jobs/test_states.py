"""What the properties of states leave to examples."""

from __future__ import annotations

from callboard.jobs import model, states

JOB = model.Job(id=bytes(16), kind="a", state=model.State.RUNNING, node=b"n", fence=1, max_attempts=3)


def test_text_that_no_store_takes_is_written_out() -> None:
    error = states.failed(JOB, 0, message="no file 'b\udcff'", traceback="\ud800").error
    assert error is not None
    assert (error.message, error.traceback) == ("no file 'b\\udcff'", "\\ud800")


def test_long_texts_keep_what_matters() -> None:
    error = states.failed(JOB, 0, message="m" * 5000 + "end", traceback="t" * 10_000 + "cause").error
    assert error is not None
    assert error.message == "m" * model.MAX_MESSAGE
    assert error.traceback.endswith("tcause")
    assert len(error.traceback) == model.MAX_TRACEBACK


def test_delays_double() -> None:
    job = model.Job(id=bytes(16), kind="a", backoff=1_000_000)
    for attempt in range(1, 10):
        assert 0.75 <= states.backoff(job, attempt) / (1_000_000 << attempt - 1) <= 1.25
    assert states.backoff(job, 1000) <= states.MAX_BACKOFF


def test_a_job_without_backoff_is_tried_again_at_once() -> None:
    job = model.Job(id=bytes(16), kind="a", backoff=0)
    assert {states.backoff(job, attempt) for attempt in (1, 2, 1000)} == {0}
