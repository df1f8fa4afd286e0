"""The tutorial, followed by the letter: its files are written, its commands run, and what they say is what it shows.

Left out are its first step (installing), and its last ones, for which a person has to fill in an ID or a PID.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from callboard.kit import ports

PAGES = Path(__file__).parents[2] / "docs/tutorial"
LEFT_OUT = re.compile(r"pip install|pause=|\b(ID|PID)\b|curl")
DEADLINE_SECONDS = 60
_STEP = re.compile(r"^```(sh|python|text)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    yield made
    made.run("callboard down --grace 1")


class Shell:
    """A new user's shell, in an empty directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = ports.free()[0]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CALLBOARD")}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = {**kept, "PATH": path, "CALLBOARD_GATEWAY_PORT": str(self.port)}

    def run(self, text: str) -> str:
        """Run commands; return what they say, with the tutorial's port."""
        ran = subprocess.run(
            ["bash", "-c", text],
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=DEADLINE_SECONDS,
            text=True,
        )
        return ran.stdout.replace(str(self.port), "8321")


@pytest.mark.parametrize("page", ["first-job", "named-service"])
def test_the_tutorial_works_as_it_is_written(shell: Shell, page: str) -> None:
    said, followed = "", 0
    for language, text in _STEP.findall((PAGES / f"{page}.md").read_text()):
        if language == "python":
            name = re.match(r"# (\S+)\n", text)
            assert name, "its first line names the file"
            (shell.directory / name[1]).write_text(text)
        elif language == "text":
            assert not said or re.search(_pattern(text), said), f"{said!r} is not {text!r}"
        else:
            skip = LEFT_OUT.search(text)
            said = "" if skip else shell.run(text)
            followed += not skip
            assert "Traceback" not in said
    assert followed >= 8


def _pattern(shown: str) -> str:
    """What is said somewhere where the page shows this: `…` stands for anything."""
    return re.escape(shown.strip()).replace("…", "(?s:.*)")
