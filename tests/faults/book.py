"""Reads what handlers wrote down, while they write. Keeps what was read: tests ask a hundred times a second."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from tests.faults import history


class Book:
    """The marks in one ledger file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._marks: list[history.Mark] = []
        self._read = 0

    def marks(self, what: str | None = None) -> list[history.Mark]:
        """Return the lines written so far, all or of one sort."""
        if self.file.exists():
            with self.file.open("rb") as open_:
                open_.seek(self._read)
                whole, _, _ = open_.read().rpartition(b"\n")  # A reader may see half of a line that is being written.
            if whole:
                self._read += len(whole) + 1
                self._marks += [msgspec.json.decode(line, type=history.Mark) for line in whole.splitlines()]
        return [mark for mark in self._marks if what in (None, mark.what)]

    def ids(self, what: str) -> set[str]:
        """Return the jobs with such a line."""
        return {mark.id for mark in self.marks(what)}

    def held_by(self, pid: int) -> set[str]:
        """Return the jobs that began in a process and did not come to an end there."""
        mine = [mark for mark in self.marks() if mark.pid == pid]
        return {mark.id for mark in mine} - {mark.id for mark in mine if mark.what != "began"}

    def elsewhere(self, ids: Iterable[str], pid: int) -> dict[str, int]:
        """Return those jobs that began in other processes than this one, with when (CLOCK_BOOTTIME)."""
        wanted = set(ids)
        return {mark.id: mark.at for mark in self.marks("began") if mark.id in wanted and mark.pid != pid}
