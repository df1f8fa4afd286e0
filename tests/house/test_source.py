"""The tree is the architecture: floors are kept, every room is named, modules look as the house wants them."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "callboard"
MODULES = {str(path.relative_to(SOURCE)): path for path in sorted(SOURCE.rglob("*.py"))}
ARCHITECTURE = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
FORBIDDEN = re.compile(r"\b(TODO|FIXME|XXX|HACK|TYPE_CHECKING)\b")
NO_ROOMS = {"util", "utils", "common", "helper", "helpers", "base", "manager", "managers", "misc"}
MOST_LINES = 400
LONGER = {"errors.py": 540, "jobs/engines/sql/writes.py": 500, "jobs/engines/sqlite/writes.py": 560}
"""One error, or one operation, after the other, each short: apart they would hide what they share."""
LATE_IMPORTS = {
    ("app/declaring.py", "callboard.app"): "a worker, whose way is a store, loads no HTTP client",
    ("brokers/__init__.py", "callboard.brokers"): "all but addresses needs an optional extra, stomp.py",
    ("cli/bench/command.py", "callboard.cli.bench"): "the plot needs an optional extra, matplotlib",
    ("cli/bench/servers.py", "callboard.cli.bench"): "as above",
    ("cli/demo/showing.py", "rich"): "bars and tables of a terminal: a piped command must not wait for them",
    ("cli/follow.py", "rich"): "as above",
    ("cli/output.py", "rich"): "as above",
    ("rpc/certs.py", "cryptography"): "an optional extra, cluster",
    ("rpc/certs.py", "cryptography.hazmat.primitives"): "as above",
    ("rpc/certs.py", "cryptography.hazmat.primitives.asymmetric"): "as above",
    ("cli/bench/calls.py", "callboard.cli.bench"): "the comparison needs an optional extra, grpcio",
    ("databases/__init__.py", "callboard.databases"): "each product needs an optional extra",
    ("ensembles/__init__.py", "callboard.ensembles"): "all but addresses needs an optional extra, kazoo",
    ("ensembles/logins.py", "puresasl.client"): "an optional part of that extra",
    ("jobs/transactions.py", "callboard.jobs.engines.sql"): "SQLAlchemy is one; users who give a connection have it",
    ("node/hosting.py", "callboard.node"): "a node loads the role that it hosts, not the memory of the others",
    ("node/hosting.py", "callboard.roles"): "as above",
}
"""Where a function imports (file, from where), and why it may."""
PUBLIC = re.compile(r"^\s*from callboard import .*\b[A-Z]", re.MULTILINE)
"""Modules are in small letters, public names are not."""


def test_the_floors_are_kept():
    linter = Path(sys.executable).with_name("lint-imports")
    ran = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr


def test_the_linter_knows_every_room():
    """`exhaustive` refuses a new package at the top that was given no floor; it must stay on."""
    assert re.search(r"^exhaustive = true$", (ROOT / ".importlinter").read_text(), re.MULTILINE)


def test_the_architecture_shows_the_floors_that_the_linter_keeps():
    contract = (ROOT / ".importlinter").read_text().partition("exhaustive = true\nlayers =\n")[2].partition("\n\n")[0]
    linted = [name for line in contract.splitlines() for name in re.findall(r"\w+", line)]
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", ARCHITECTURE, re.MULTILINE)
    shown = {name: int(floor) for floor, names in rows for name in re.findall(r"\w+", names)}
    assert sorted(shown) == sorted(linted)
    assert [shown[name] for name in linted] == sorted(shown.values(), reverse=True)


def test_the_architecture_tells_of_every_package():
    packages = {Path(name).parent for name in MODULES if name.endswith("__init__.py")} - {Path()}
    top = {Path(name).stem for name in MODULES if "/" not in name} - {"__init__"}
    names = {".".join(package.parts) for package in packages} | top
    assert [name for name in sorted(names) if f"`{name}`" not in ARCHITECTURE and f"**{name}**" not in ARCHITECTURE] == []


def test_every_module_says_what_lives_in_it():
    assert [name for name, path in MODULES.items() if not ast.get_docstring(_tree(path))] == []


def test_modules_are_called_after_what_they_are():
    assert [name for name, path in MODULES.items() if NO_ROOMS & {path.stem, path.parent.name}] == []


def test_a_module_can_be_read_at_a_sitting():
    assert [name for name, path in MODULES.items() if _lines(path) > LONGER.get(name, MOST_LINES)] == []


def test_nothing_is_left_to_be_done_or_hidden_from_running_code():
    assert [name for name, path in MODULES.items() if FORBIDDEN.search(path.read_text())] == []


def test_the_public_names_are_for_users():
    """Inside, each name is taken from its room: the public ones are loaded when users ask for them."""
    likes = ("builtin.py", "cli/bench/", "cli/demo/")
    found = {name for name, path in MODULES.items() if PUBLIC.search(path.read_text()) and not name.startswith(likes)}
    assert found == set()


def test_functions_import_only_where_there_is_a_reason():
    found = {late for name, path in MODULES.items() for late in _late_imports(name, path)}
    assert found - LATE_IMPORTS.keys() == set(), "move it to the top, or give the reason in LATE_IMPORTS"
    assert LATE_IMPORTS.keys() - found == set(), "no reason is needed there any more"


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def _late_imports(name: str, path: Path) -> Iterator[tuple[str, str]]:
    for inner in ast.walk(_tree(path)):
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
            for each in ast.walk(inner):
                if isinstance(each, ast.ImportFrom):
                    yield name, each.module or ""
                elif isinstance(each, ast.Import):
                    yield from ((name, alias.name) for alias in each.names)
