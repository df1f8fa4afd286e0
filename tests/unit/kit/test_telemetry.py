"""Log lines are one line each, in the chosen form, and hold no secrets."""

import io
import json
import logging

import pytest
import structlog

from callboard.kit import clock, telemetry


@pytest.fixture
def stream():
    yield io.StringIO()
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logging.getLogger().handlers.clear()


def test_text_is_key_value(stream):
    telemetry.configure(stream=stream, node="n1")
    structlog.get_logger().info("node started", pid=7)
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert 'level=info event="node started"' in line
    assert "pid=7" in line and "node=n1" in line


def test_json_is_one_object_a_line(stream):
    telemetry.configure(form="json", stream=stream)
    structlog.get_logger().warning("a\nb", count=1)
    found = json.loads(stream.getvalue())
    assert found["event"] == "a\nb" and found["count"] == 1 and found["level"] == "warning"


def test_the_level_is_a_floor(stream):
    telemetry.configure("warning", stream=stream)
    structlog.get_logger().info("quiet")
    structlog.get_logger().error("loud")
    assert "quiet" not in stream.getvalue() and "loud" in stream.getvalue()


def test_what_uses_the_standard_library_lands_in_the_same_place(stream):
    telemetry.configure(form="json", stream=stream)
    logging.getLogger("callboard.store").warning("commit %d is slow", 3)
    found = json.loads(stream.getvalue())
    assert found["event"] == "commit 3 is slow" and found["logger"] == "callboard.store" and found["level"] == "warning"


@pytest.mark.parametrize("event", [{"secret": "abc123"}, {"Authorization": "abc123"}, {"url": "x cb_77_abc123 y"}])
def test_secrets_are_masked(stream, event):
    telemetry.configure(stream=stream)
    structlog.get_logger().info("asked", **event)
    assert "abc123" not in stream.getvalue() and telemetry.MASK in stream.getvalue()


def test_a_key_in_the_event_itself_is_masked(stream):
    telemetry.configure(stream=stream)
    structlog.get_logger().info("made cb_1f_secretpart")
    assert "secretpart" not in stream.getvalue()


class Full(io.StringIO):
    """A stream on a full disk."""

    def write(self, text):
        raise OSError(28, "No space left on device")

    def flush(self):
        self.write("")


def test_a_log_that_cannot_be_written_stops_nothing(stream):
    telemetry.configure(stream=Full())
    structlog.get_logger().error("store full")


def test_several_lines_stay_one(stream):
    telemetry.configure(stream=stream)
    structlog.get_logger().info("told", why="one\ntwo")
    assert stream.getvalue().count("\n") == 1


def test_what_others_can_cause_is_logged_seldom():
    time = clock.ManualClock()
    seldom = telemetry.Seldom(time, seconds=10)
    with structlog.testing.capture_logs() as logged:
        for code in ("a", "a", "b", "a"):
            seldom.warning("refused", code=code, why="x")
        time.advance(10)
        seldom.warning("refused", code="a", why="x")
        for number in range(1000):
            seldom.warning(f"event {number}")
    assert [(line["code"], line.get("left_out")) for line in logged[:3]] == [("a", None), ("b", None), ("a", 2)]
    assert len(seldom._said) <= seldom.KINDS
