"""What a starting node says is what its agent hears."""

import os

import pytest

from callboard import errors
from callboard.node import report


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    yield reading, report.Reporter(writing)
    os.close(reading)


def test_ready(pipe):
    reading, reporter = pipe
    reporter.ready("cb_1_2")
    reporter.failed(errors.PortInUse("too late"))  # Only the first word counts.
    assert report.read(os.read(reading, 1000)) == report.Report(new_key="cb_1_2")
    assert os.read(reading, 1) == b""


def test_an_error_keeps_its_class_and_message(pipe):
    reading, reporter = pipe
    reporter.failed(errors.PortInUse("port 1 is in use"))
    found = report.read(os.read(reading, 1000)).error()
    assert type(found) is errors.PortInUse and found.message == "port 1 is in use"


def test_an_error_of_a_newer_callboard_is_a_startup_error():
    assert type(report.Report("of_the_future", "x").error()) is errors.StartupError


def test_a_node_that_ends_without_a_word():
    assert report.read(b"") is None


def test_an_agent_that_died_misses_it():
    reading, writing = os.pipe()
    os.close(reading)
    report.Reporter(writing).ready()
    report.Reporter(None).ready()
