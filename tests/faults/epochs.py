"""Judges what services accepted: nothing under an epoch after something under a later one. Reads what `named` wrote down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A service was asked whether it may accept, or answer; or a method with a mark began. `at` is CLOCK_BOOTTIME in ns."""

    at: int
    pid: int
    epoch: int
    """Under which it accepted; of a refusal, the one that was meant."""
    code: str = ""
    """Of a refusal."""
    mark: str = ""
    """What the method was given."""
    domain: str = ""
    """For which the service was asked: each of them has one office."""

    @property
    def accepted(self) -> bool:
        return not self.code and not self.mark


class Ledger:
    """What is written into a file from now on. Keeps what was read: tests ask a hundred times a second."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read = file.stat().st_size if file.exists() else 0
        self._lines: list[Line] = []

    def lines(self) -> list[Line]:
        """Return the lines so far."""
        if self._file.exists():
            with self._file.open("rb") as open_:
                open_.seek(self._read)
                whole, end, _ = open_.read().rpartition(b"\n")  # A reader may see half of a line that is being written.
            self._read += len(whole) + len(end)
            self._lines += [_decode(line) for line in whole.splitlines()]
        return self._lines


def faults(lines: Iterable[Line]) -> list[str]:
    """Return a sentence for each epoch under which something was accepted too late."""
    domains: dict[str, dict[int, list[int]]] = {}
    for line in lines:
        if line.accepted:
            domains.setdefault(line.domain, {}).setdefault(line.epoch, []).append(line.at)
    return [fault for times in domains.values() for fault in _late(times)]


def _late(times: Mapping[int, Sequence[int]]) -> list[str]:
    found = []
    first, later = None, 0
    for epoch in sorted(times, reverse=True):
        late = [at for at in times[epoch] if first is not None and at > first]
        if first is not None and late:
            found.append(f"{len(late)} accepted under {epoch}, up to {(max(late) - first) / 1e9} s after one under {later}")
        if first is None or min(times[epoch]) < first:
            first, later = min(times[epoch]), epoch
    return found


_decode = msgspec.json.Decoder(Line).decode
