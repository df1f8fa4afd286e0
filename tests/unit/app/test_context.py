"""What a handler is given."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import structlog

from callboard import errors
from callboard.app import Cancelled, Context, RetryLater
from callboard.jobs import model
from callboard.kit import uuid7

NOW = 1_800_000_000_000_000
JOB = model.Job(
    id=uuid7.make(NOW),
    kind="t.f",
    domain="team.acme",
    tags=("a",),
    meta={"trace": "1"},
    run=2,
    fence=7,
    attempts=3,
    started_at=NOW,
    timeout=1_500_000,
)


class Port:
    def __init__(self) -> None:
        self.cancelled = False
        self.progress: model.Progress | None = None
        self.joined = False


def test_facts() -> None:
    given = Context(JOB, Port())
    assert (given.id, given.kind, given.domain) == (uuid7.text(JOB.id), "t.f", "team.acme")
    assert (given.run, given.attempt, given.fence) == (2, 4, 7)
    assert (given.tags, given.meta) == (("a",), {"trace": "1"})
    assert given.deadline == datetime.fromtimestamp(NOW / 1e6 + 1.5, UTC)
    assert Context(msgspec.structs.replace(JOB, timeout=None), Port()).deadline is None


def test_progress_is_kept_by_the_port() -> None:
    port = Port()
    given = Context(JOB, port)
    given.progress(1, 2, "half \ud800" + "x" * 500)
    assert port.progress is not None
    assert (port.progress.done, port.progress.total) == (1, 2)
    assert port.progress.note.startswith("half ?xxx")
    assert len(port.progress.note) == 200
    given.progress(2**80)
    assert port.progress == model.Progress(float(2**80), 0, "")


@pytest.mark.parametrize("value", [math.nan, math.inf, "one", 10**400])
def test_progress_takes_numbers(value: Any) -> None:
    with pytest.raises(errors.InvalidInput, match="finite numbers"):
        Context(JOB, Port()).progress(value)


def test_cancellation_is_looked_at() -> None:
    port = Port()
    given = Context(JOB, port)
    given.check_cancelled()
    port.cancelled = True
    assert given.cancelled
    with pytest.raises(Cancelled):
        given.check_cancelled()


def test_the_log_names_the_job() -> None:
    with structlog.testing.capture_logs() as lines:
        Context(JOB, Port()).log.info("reading", pages=3)
    named = {"job": uuid7.text(JOB.id), "kind": "t.f", "run": 2, "attempt": 4}
    assert lines == [{"event": "reading", "log_level": "info", "pages": 3, **named}]


@pytest.mark.parametrize("seconds", [-1, math.inf, math.nan])
def test_later_is_in_the_future(seconds: float) -> None:
    with pytest.raises(errors.InvalidInput, match="seconds"):
        RetryLater(seconds)
