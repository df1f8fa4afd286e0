"""Plays seeds in a process of its own: `python -m tests.scenarios.player --seeds 0:50 [--variant NAME]`, a line of JSON each.

The order in which sets are gone through depends on PYTHONHASHSEED, which a process cannot change for itself: whoever starts
this one sets it to 0, so that a seed replays. `play` does so.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import structlog

from tests.scenarios import variants, world

ROOT = Path(__file__).parents[2]
SECONDS_PER_SEED = 20
"""Last resort, for a simulation that goes round in circles."""


def play(seeds: range, variant: str = "", *, trace: bool = False) -> list[world.Played]:
    """Play seeds in a new process, so that they replay. Raises RuntimeError, with what it said, when it fails."""
    command = [sys.executable, "-m", "tests.scenarios.player", "--seeds", f"{seeds.start}:{seeds.stop}", "--variant", variant]
    ended = subprocess.run(
        [*command, *(["--trace"] if trace else [])],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE,
        stderr=None if trace else subprocess.PIPE,
        text=True,
        timeout=60 + SECONDS_PER_SEED * len(seeds),
    )
    if ended.returncode:
        raise RuntimeError(f"the simulation of seeds {seeds} failed: {(ended.stderr or '')[-4000:]}")
    return [msgspec.json.decode(line, type=world.Played) for line in ended.stdout.splitlines() if line.startswith("{")]


def _quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL), cache_logger_on_first_use=True)


def _loud() -> None:
    """Show what nodes log, with true time and the machine, on standard error."""

    def whose(logger: object, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        node = getattr(asyncio.get_running_loop(), "node", None)
        return {"at": f"{node.stage.now:8.3f}", "machine": node.place.machine, **event} if node is not None else event

    structlog.configure(
        processors=[
            whose,
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["at", "machine"], drop_missing=True),
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )


def _played(seeds: range, variant: str) -> Iterator[world.Played]:
    gc.freeze()
    for seed in seeds:
        with variants.VARIANTS[variant]() if variant else contextlib.nullcontext():
            yield world.play(seed)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", required=True, help="FIRST:END")
    parser.add_argument("--variant", default="")
    parser.add_argument("--trace", action="store_true")
    given = parser.parse_args()
    first, _, end = given.seeds.partition(":")
    _loud() if given.trace else _quiet()
    for played in _played(range(int(first), int(end or int(first) + 1)), given.variant):
        print(json.dumps(msgspec.to_builtins(played)), flush=True)


if __name__ == "__main__":
    main()
