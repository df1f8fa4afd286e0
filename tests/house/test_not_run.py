"""A run without the servers says so at its end, and fails where none may be missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEST = "tests/engines/test_zookeeper_coordination.py::test_the_granted_time_is_not_the_one_asked_for"


@pytest.mark.parametrize(("demanded", "code"), [("0", 0), ("1", 1)])
def test_what_was_not_run_is_told(demanded, code, tmp_path):
    surroundings = os.environ | {"PATH": str(tmp_path), "CALLBOARD_TEST_ALL_ENGINES": demanded}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", TEST]
    ran = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True)
    assert "1 tests: needs ZooKeeper (there is no java): make engines" in ran.stdout
    assert ("a server that tests need is missing" in ran.stdout) == (demanded == "1")
    assert ran.returncode == code
