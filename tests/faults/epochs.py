"""Judges what services accepted: nothing under an epoch after something under a later one. Reads what `named` wrote down."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A service was asked whether it may accept, or answer; or a method that says so was run. `at` is CLOCK_BOOTTIME in ns."""

    at: int
    pid: int
    epoch: int
    """Under which it accepted; of a refusal, the one that was meant."""
    code: str = ""
    """Of a refusal."""
    mark: str = ""
    """What the method was given."""


def read(file: Path) -> list[Line]:
    """Return the lines that were written whole."""
    whole = file.read_bytes().rpartition(b"\n")[0] if file.exists() else b""
    return _lines(whole) if whole else []


def faults(lines: Iterable[Line]) -> list[str]:
    """Return a sentence for each epoch under which something was accepted too late."""
    times: dict[int, list[int]] = {}
    for line in lines:
        if not line.code and not line.mark:
            times.setdefault(line.epoch, []).append(line.at)
    found = []
    later = None
    for epoch in sorted(times, reverse=True):
        last = max(times[epoch])
        if later is not None and last > min(times[later]):
            late = sum(at > min(times[later]) for at in times[epoch])
            found.append(f"{late} accepted under {epoch} after one under {later}, the last {(last - min(times[later])) / 1e9} s")
        later = epoch if later is None or min(times[epoch]) < min(times[later]) else later
    return found


def _lines(whole: bytes) -> list[Line]:
    return [_decode(line) for line in whole.splitlines()]


_decode = msgspec.json.Decoder(Line).decode
