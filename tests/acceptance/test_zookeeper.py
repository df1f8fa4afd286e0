"""`callboard` with a store in a ZooKeeper ensemble as people use it, and in error: a line each, with what helps, and no password.

What is asked of the store itself is in `tests/conformance`, what happens when it breaks in `tests/faults`.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from callboard.jobs import engines
from callboard.kit import ports
from callboard.testing.engines import zookeeper as zookeepers
from tests.acceptance import shells

SECRET = "open-sesame"


@pytest.fixture(autouse=True)
def clean(nothing_is_left: None) -> None:
    """Of all that is started here."""


@pytest.fixture
def url(zookeeper: zookeepers.Ensemble) -> str:
    """A store that does not exist yet, for whoever makes it first alone."""
    return zookeeper.url(f"/accepted-{time.time_ns()}").replace("://", f"://callboard:{SECRET}@")


def test_jobs_are_submitted_and_run(tmp_path: Path, url: str):
    (tmp_path / "letters.py").write_text(shells.APP)
    port = ports.free()[0]
    started = shells.run(tmp_path, "up", "letters:app", "--port", port, "--workers", 1, "--store", url, "--detach")
    assert started.returncode == 0, started.stderr
    try:
        assert SECRET not in started.stdout + started.stderr
        ran = shells.run(tmp_path, "submit", "letters.read", "text=abc", "--tag", "first", "--wait", "--json")
        assert ran.returncode == 0, ran.stderr
        done = json.loads(shells.run(tmp_path, "job", json.loads(ran.stdout)["id"], "--json").stdout)
        assert (done["result"], done["tags"], [each["message"] for each in done["errors"]]) == ("cba", ["first"], ["abc"])
        assert done["id"] in shells.run(tmp_path, "jobs", "--tag", "first", "--json").stdout
    finally:
        assert shells.run(tmp_path, "down").returncode == 0


def test_refuses(shell: shells.Shell, zookeeper: zookeepers.Ensemble, url: str):
    engines.open(url).close()
    shell.refuses(url.replace(SECRET, "closed-sesame"), 6, "store_refused", "callboard", "user and password in the URL")
    shell.refuses(url.replace(f"callboard:{SECRET}@", ""), 6, "store_refused", "without a login", "access rules")
    shell.refuses(f"{url}?backlock=5", 2, "invalid_setting", "backlock", "backlog")
    shell.refuses(f"{url}?backlog=many", 2, "invalid_setting", "backlog")
    zookeeper.stop()
    shell.refuses(url, 5, "store_unavailable", f"{zookeeper.hosts} did not answer", "majority of its servers")


def test_a_url_that_is_none(shell: shells.Shell):
    for url in (
        "zookeeper://",
        "zookeeper://127.0.0.1:many/callboard",
        "zookeeper://callboard:open/sesame@127.0.0.1/callboard",
        "zookeeper://127.0.0.1/callboard?tls=perhaps",
    ):
        shell.refuses(url, 2, "invalid_setting")


def test_the_library_is_not_installed(tmp_path: Path):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "kazoo.py").write_text("raise ModuleNotFoundError('No module named kazoo', name='kazoo')\n")
    bare = str(tmp_path / "bare")
    shells.refused(tmp_path, "zookeeper://127.0.0.1:1/x", 2, "invalid_setting", "kazoo", "callboard[zookeeper]", PYTHONPATH=bare)
