"""`callboard demo` as a real command on real files: everything is kept, and nothing is left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from callboard.cli.demo import deployment, files

SECONDS = 100


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Some files of the standard library."""
    root = tmp_path / "tree"
    for name in ("json", "email", "importlib"):
        shutil.copytree(files.default_root() / name, root / name)
    (root / "broken.py").write_text("def f(:\n")
    return root


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Where the demo makes its temporary directory."""
    made = tmp_path / "temporary"
    made.mkdir()
    return made


def started(*tokens: str, temporary: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "callboard.cli", "demo", *tokens],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(temporary)},
    )


def nothing_is_left(temporary: Path) -> bool:
    return list(temporary.iterdir()) == [] and deployment._end_leftovers(temporary) == []


def test_nothing_gets_lost(tree, temporary):
    with started(str(tree), "--json", temporary=temporary) as demo:
        out, err = demo.communicate(timeout=SECONDS)
    assert (demo.returncode, err) == (0, "")
    told = json.loads(out)
    count = len(files.take(tree).files)
    assert (told["submitted"], told["completed"], told["faults"]) == (count, count, [])
    assert told["lost"] == told["failed"] == told["finished_twice"] == []
    assert 1 <= len(told["started_again"]) == told["killed_while_running"] <= told["slots"]
    assert all(Path(path).is_file() for path in told["started_again"])
    assert 0 < told["rescue_seconds"] < 10
    assert told["nodes"] == {"gateway": 2, "worker": 3}
    assert told["totals"]["syntax_errors"] == 1
    assert told["totals"]["bytes"] == sum(
        path.stat().st_size for path in tree.rglob("*") if path.suffix != ".pyc" and path.is_file()
    )
    assert len(told["largest"]) == 10
    assert nothing_is_left(temporary)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_interrupted_it_leaves_nothing(tree, temporary, number):
    with started(str(tree), temporary=temporary) as demo:
        for line in demo.stderr:
            if "submitted" in line:
                break
        demo.send_signal(number)
        out, err = demo.communicate(timeout=SECONDS)
    assert (demo.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert nothing_is_left(temporary)
