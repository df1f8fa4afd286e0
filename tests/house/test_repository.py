"""What stands around the source: the targets of make, the lock, the wheel's metadata, and words that no file may have."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from callboard.jobs import engines

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = (
    *("help", "demo", "test", "engines", "check", "format", "docs", "conformance", "faults", "soak", "bench", "bench-engines"),
    *("bench-servers", "wheel", "clean"),
)
LEFT_TO_BE_DONE = re.compile(rb"\b(TODO|FIXME|XXX|HACK)\b")
OUTSIDE = re.compile(rb"https?://[^\s\"']*(/simple/|\.whl\b|\.tgz\b|\.deb\b)|\"resolved\": *\"http")
"""Addresses in registries of packages: each user has their own."""
THIS = "tests/house/"


def _kept() -> list[Path]:
    """The repository's files of text, as git has or would have them; none where there is no git."""
    ran = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    names = ran.stdout.splitlines() if ran.returncode == 0 else []
    return [path for name in names if not name.startswith(THIS) and (path := ROOT / name).is_file() and path.suffix != ".png"]


def test_bare_make_prints_its_targets():
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS")}
    said = subprocess.run(["make"], cwd=ROOT, env=alone, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[1] for line in said] == list(TARGETS)
    assert all(len(line.split()) > 3 for line in said)


def test_ci_runs_what_people_run():
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text() and script.read_text().rstrip().endswith("make test")


def test_ci_leaves_no_engine_out():
    lines = (ROOT / ".ci/run").read_text().splitlines()
    assert lines.index("make engines") < lines.index("export CALLBOARD_TEST_ALL_ENGINES=1") < lines.index("make test")


def test_every_requirement_is_locked():
    locked = {_name(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    asked = [*PROJECT["dependencies"], *(each for extra in PROJECT["optional-dependencies"].values() for each in extra)]
    assert {_name(each) for each in asked} <= locked


def test_what_is_installed_is_what_is_locked():
    if Path(sys.prefix) != ROOT / ".venv" or not (ROOT / ".venv/.ready").exists():
        pytest.skip("this is not the environment that make sets up: make test")
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        name, equals, version = line.partition("==")
        assert not equals or metadata.version(name) == version, line


def test_engines_are_found_by_their_entry_points():
    found = {point.name for point in metadata.entry_points(group="callboard.jobs.engines")}
    assert found == {"memory", "sqlite", "mysql", "mariadb", "postgresql", "postgres", "zookeeper"}
    engines.open("memory:").close()


def test_engines_of_coordination_are_found_by_their_entry_points():
    found = {point.name: point.load() for point in metadata.entry_points(group="callboard.coordination.engines")}
    databases = {"mysql", "mariadb", "postgresql", "postgres"}
    assert found.keys() == {"local", "memory", "zookeeper", *databases} and all(map(callable, found.values()))


def test_the_version_is_one():
    assert metadata.version("callboard") == PROJECT["version"]


def test_users_get_the_types():
    assert (ROOT / "src/callboard/py.typed").exists()


def test_nothing_is_left_to_be_done():
    assert not [path for path in _kept() if LEFT_TO_BE_DONE.search(path.read_bytes())]


def test_the_repository_stands_alone():
    assert not [path for path in _kept() if OUTSIDE.search(path.read_bytes())]


def _name(requirement: str) -> str:
    return re.split(r"[<>=\[; ]", requirement, maxsplit=1)[0].lower().replace("_", "-")
