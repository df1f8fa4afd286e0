"""What the acceptance tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from callboard.cli.demo import deployment
from tests.acceptance import shells
from tests.acceptance.agents import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    try:
        yield made
    finally:
        made.sweep()


@pytest.fixture
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """Whatever a test starts names its directory in its command line; all of it must be gone at the end."""
    yield
    assert deployment._end_leftovers(tmp_path) == []


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[shells.Shell]:
    made = shells.Shell(tmp_path)
    try:
        yield made
    finally:
        made.close()
