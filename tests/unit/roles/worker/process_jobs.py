"""Jobs that run in child processes; found by name from there."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from datetime import UTC, datetime

from callboard.app import Callboard, Context, Discard

app = Callboard("p")


@app.job(runs_in="process")
def pid(ctx: Context, when: datetime) -> dict[str, int | str]:
    print("what handlers print goes to the log")
    sys.stdout.flush()
    assert sys.stdin.read() == ""
    return {"pid": os.getpid(), "parent": os.getppid(), "attempt": ctx.attempt, "when": when.astimezone(UTC).isoformat()}


@app.job(runs_in="process")
async def in_loop_of_its_own(n: int) -> int:
    await asyncio.sleep(0)
    return n


@app.job(runs_in="process", attempts=1)
def fail() -> None:
    raise ValueError("from a child")


@app.job(runs_in="process", attempts=3)
def give_up() -> None:
    raise Discard("enough")


@app.job(runs_in="process", attempts=1)
def leave(how: str) -> None:
    if how == "exit":
        os._exit(7)
    if how == "crash":
        ctypes.string_at(0)
    sys.exit(1)


@app.job(runs_in="process", attempts=1)
def hog(ctx: Context, file: str) -> None:
    ctx.progress(1, 2, "half")
    with open(file, "a") as out:
        out.write(f"{os.getpid()}\n")
    while True:
        time.sleep(60)


@app.job(runs_in="process", attempts=1)
async def calling() -> None:
    await app.call("cache", "get", key="a")
