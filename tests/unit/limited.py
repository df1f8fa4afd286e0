"""An engine that takes only so many unfinished jobs: what a store with a limit answers, around any engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from callboard.jobs import engine as seam
from callboard.jobs import model


class Limited:
    """Passes all on to the engine inside, but new jobs over `limit` unfinished ones. One process's."""

    def __init__(self, inner: seam.Engine, limit: int) -> None:
        self.limit = limit
        self.name = inner.name
        self.abilities = inner.abilities
        self._inner = inner

    def apply(self, units: Sequence[seam.Unit]) -> list[seam.UnitResult]:
        return [self._apply(unit) for unit in units]

    def _apply(self, unit: seam.Unit) -> seam.UnitResult:
        free = self.limit - self._unfinished()
        for index, op in enumerate(unit):
            if isinstance(op, seam.Put) and self._inner.get([op.job.key]) == [None]:
                if free < 1:
                    return seam.Refused(index, seam.Full(self.limit))
                free -= 1
        (result,) = self._inner.apply([unit])
        return result

    def _unfinished(self) -> int:
        counts = [count for domain in self._inner.domains() for count in self._inner.counts(domain)]
        return sum(count.jobs for count in counts if count.state not in model.TERMINAL)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
