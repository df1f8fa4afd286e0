"""Plays seeds in a process of its own: `python -m tests.scenarios.player --seeds 0:50 [--variant NAME]`, a line of JSON each.

Each seed is played in a fork, so that none depends on what was played before. The order in which sets are gone through depends on
PYTHONHASHSEED, which a process cannot change for itself: whoever starts this one sets it to 0. `play` does so; then seeds replay.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import subprocess
import sys
import traceback
from pathlib import Path

import msgspec
import structlog

from tests.scenarios import variants, world

ROOT = Path(__file__).parents[2]
SECONDS_PER_SEED = 20
"""Last resort, for a simulation that goes round in circles."""
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(world.Played).decode


def play(seeds: range, variant: str = "", *, until_caught: bool = False, trace: bool = False) -> list[world.Played]:
    """Play seeds in a new process; with `until_caught` the first one with a violation is the last.

    `trace` shows on standard error what the nodes log. Raises RuntimeError, with what it said, when it fails.
    """
    command = [sys.executable, "-m", "tests.scenarios.player", "--seeds", f"{seeds.start}:{seeds.stop}", "--variant", variant]
    flags = [flag for flag, wanted in (("--until-caught", until_caught), ("--trace", trace)) if wanted]
    ended = subprocess.run(
        [*command, *flags],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE,
        stderr=None if trace else subprocess.PIPE,
        text=True,
        timeout=60 + SECONDS_PER_SEED * len(seeds),
    )
    if ended.returncode:
        raise RuntimeError(f"the simulation of seeds {seeds} failed: {(ended.stderr or '')[-4000:]}")
    return [_decode(line) for line in ended.stdout.splitlines() if line.startswith("{")]


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


def _forked(seed: int, variant: str) -> world.Played:
    """Play a seed in a fork: it is the same whatever was played before, and its memory goes with it."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            with variants.VARIANTS[variant]() if variant else contextlib.nullcontext(), open(writing, "wb") as out:
                out.write(_encode(world.play(seed)))
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(writing)
    with open(reading, "rb") as told:
        line = told.read()
    if os.waitpid(child, 0)[1]:
        raise SystemExit(f"seed {seed} could not be played to its end")
    return _decode(line)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", required=True, help="FIRST:END")
    parser.add_argument("--variant", default="", choices=["", *variants.VARIANTS])
    parser.add_argument("--until-caught", action="store_true")
    parser.add_argument("--trace", action="store_true")
    given = parser.parse_args()
    first, _, end = given.seeds.partition(":")
    _loud() if given.trace else _quiet()
    gc.disable()
    for seed in range(int(first), int(end or int(first) + 1)):
        played = _forked(seed, given.variant)
        print(_encode(played).decode(), flush=True)
        if given.until_caught and played.violations:
            return


if __name__ == "__main__":
    main()
