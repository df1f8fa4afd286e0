"""`callboard` run as people run it, on stores that it is told of by their URL: one line for each error, with what helps."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from callboard.kit import ports

CALLBOARD = (sys.executable, "-m", "callboard.cli")
SECONDS = 40
SHELL = """
import contextlib, io, json, sys
from callboard.cli import program

for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = program.run(json.loads(line))
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""
APP = """
from callboard import Callboard, Context

app = Callboard("letters")

@app.job(attempts=2)
def read(ctx: Context, text: str) -> str:
    if ctx.attempt == 1:
        raise ValueError(text)
    return text[::-1]
"""


def run(cwd: Path, *tokens: object, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CALLBOARD_")}
    return subprocess.run(
        [*CALLBOARD, *map(str, tokens)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=clean | environment,
        stdin=subprocess.DEVNULL,
        timeout=SECONDS,
        check=False,
    )


def one_line(code: int, out: str, said: str, wanted: int, word: str, mend: Sequence[str]) -> None:
    """What failed printed one line with its code and what helps, and shows no password."""
    assert (code, out) == (wanted, ""), said
    assert said.startswith("callboard: ") and said.endswith(f"({word})\n") and said.count("\n") == 1, said
    assert not re.search("sesame|Traceback|Error:|Exception", said), said
    for each in mend:
        assert each in said, said


def up(cwd: Path, url: str) -> list[str]:
    port = str(ports.free()[0])
    return ["up", "--data", str(cwd / "data"), "--port", port, "--workers", "1", "--store", url]


class Shell:
    """A process that runs one command line after another: most of what a command takes is its start."""

    def __init__(self, cwd: Path) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CALLBOARD_")}
        self._process = subprocess.Popen(
            [sys.executable, "-c", SHELL], cwd=cwd, env=clean, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._cwd = cwd

    def refuses(self, url: str, code: int, word: str, *mend: str) -> None:
        """`up` on this store ends so."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(up(self._cwd, url)) + "\n")
        self._process.stdin.flush()
        returned, out, said = json.loads(self._process.stdout.readline())
        one_line(returned, out, said, code, word, mend)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def refused(cwd: Path, url: str, code: int, word: str, *mend: str, **environment: str) -> None:
    """The same of a process of its own."""
    ran = run(cwd, *up(cwd, url), **environment)
    one_line(ran.returncode, ran.stdout, ran.stderr, code, word, mend)
