"""Who has been silent for too long, judged by what one observer saw change, on the observer's own clock. Pure.

A session writes a new beat into its row again and again. Whoever sees the same beat for as long as that session was granted may
end it, provided that the row still has this beat when it is deleted. An observer's clock starts when it has *received* a beat,
so that the session cannot have relied on anything since then. Nothing is held against anybody while the observer itself got no
answers: the others may have got none, either.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

LATE_SHARE: Final = 1 / 3
"""The part of a session's granted time between two answers to an observer, from which on it was cut off itself."""


class Life(msgspec.Struct, frozen=True):
    """One session as its row tells. `token` is another one in each of its lives, `beat` changes while it lives."""

    name: str
    token: bytes
    beat: int
    granted_ms: int

    @property
    def granted_seconds(self) -> float:
        return self.granted_ms / 1000


class Ages:
    """What one observer remembers. Times are its own, in seconds, and never fall."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[Life, float]] = {}
        self._answered = 0.0

    def look(self, lives: Iterable[Life], now: float) -> list[Life]:
        """Take note of an answer that has just come; return who is to be ended.

        After an outage, all that are still there are given as long as it took, up to their granted time, to come back; and
        then their granted time.
        """
        between = now - self._answered if self._since else 0.0
        before, self._since, self._answered = self._since, {}, now
        overdue = []
        for life in lives:
            known, since = before.get(life.name, (None, now))
            granted = life.granted_seconds
            if between > granted * LATE_SHARE:
                since = now + min(between, granted)
            elif known != life:
                since = now
            self._since[life.name] = life, since
            if now - since >= granted:
                overdue.append(life)
        return overdue
