"""The built-in kinds: what `callboard up` serves when it is given no app, and what the demo submits.

They show what a kind looks like, and let a new user try waiting, progress, failure and real files before writing one.
`inspect_file` is plain Python without Callboard, so that the demo can count the same files itself.
"""

from __future__ import annotations

import ast
import asyncio
import hashlib
import threading
import time
import warnings
from pathlib import Path
from typing import Annotated, Any

import msgspec

from callboard import app as apps

Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]

CHUNK_BYTES = 1 << 20
PROGRESS_SECONDS = 0.1

app = apps.Callboard("demo")

_parsing = threading.Lock()
"""Held while the parser runs with its warnings silenced: that setting is of the whole process."""


class Inspection(msgspec.Struct, frozen=True):
    """What is found in one file. Functions, classes and syntax errors are looked for in Python files only."""

    bytes: int
    sha256: str
    lines: int
    functions: int = 0
    classes: int = 0
    syntax_error: bool = False


def inspect_file(path: Path) -> Inspection:
    """Read a file: its size, digest and lines, and what a Python file defines. Raises OSError."""
    digest, size, lines, last, parts = hashlib.sha256(), 0, 0, b"", []
    is_python = path.suffix == ".py"
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
            lines += chunk.count(b"\n")
            last = chunk[-1:]
            if is_python:
                parts.append(chunk)
    lines += last not in (b"", b"\n")
    functions, classes, syntax_error = count_definitions(b"".join(parts)) if is_python else (0, 0, False)
    return Inspection(size, digest.hexdigest(), lines, functions, classes, syntax_error)


def count_definitions(source: bytes) -> tuple[int, int, bool]:
    """Return how many functions and classes Python source defines, and whether it is not Python after all."""
    try:
        with _parsing, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return 0, 0, True
    functions = classes = 0
    for node in ast.walk(tree):
        functions += isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        classes += isinstance(node, ast.ClassDef)
    return functions, classes, False


@app.job(lane="short")
async def echo(value: Any = None) -> Any:
    """Return what was given."""
    return value


@app.job
async def sleep(ctx: apps.Context, seconds: Seconds = 1.0) -> float:
    """Take some time, showing progress; return the seconds it took."""
    started = time.monotonic()
    while (elapsed := time.monotonic() - started) < seconds:
        ctx.progress(round(elapsed, 1), seconds, "sleeping")
        await asyncio.sleep(min(PROGRESS_SECONDS, seconds - elapsed))
    ctx.progress(seconds, seconds, "slept")
    return round(time.monotonic() - started, 3)


@app.job(lane="short", attempts=1)
async def fail(message: str = "as it was asked to") -> None:
    """Fail. With more attempts (`--attempts 3`) it is tried again, and fails again."""
    raise RuntimeError(message)


@app.job(lane="short")
def inspect(path: str, seconds: Seconds = 0.0) -> Inspection:
    """Inspect a file of the worker's machine; take `seconds` at the least."""
    started = time.monotonic()
    found = inspect_file(Path(path))
    time.sleep(max(0.0, started + seconds - time.monotonic()))
    return found
