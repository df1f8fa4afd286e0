"""Callboard's job engine alone, asked the same as a bare driver is: what is between the two is what the engine costs."""

from __future__ import annotations

from typing import Any, Final

from callboard.jobs import engine as seam
from callboard.jobs import engines, model, states, submission
from callboard.kit import clock, grammar, uuid7

KIND: Final = "bench.noop"


class Hand:
    """One engine; see `raw.Hand`. A unit a job, as they come from submitters and workers."""

    def __init__(self, url: str) -> None:
        self._engine = engines.open(url)
        self._clock = clock.SystemClock()
        self._node = uuid7.make(self._clock.now())
        self._given = submission.Submission(kind=KIND, args={"n": 256})

    def create(self) -> None:
        """Nothing: opening a store makes it; use another URL for an empty one."""

    def insert(self, jobs: int) -> None:
        now = self._clock.now()
        self._apply([(seam.Put(submission.build(self._given, {}, now), now),) for _ in range(jobs)])

    def claim(self, limit: int) -> list[Any]:
        return self.turn([], limit)

    def end(self, claims: list[Any]) -> int:
        return len(self._apply(self._ends(claims)))

    def turn(self, claims: list[Any], limit: int) -> list[Any]:
        take = seam.Take(grammar.DEFAULT_DOMAIN, model.DEFAULT_QUEUE, model.Lane.LONG, ((KIND, (1,)),), limit)
        claim = seam.Claim(self._node, (take,), limit, self._clock.now())
        claimed = self._apply([*self._ends(claims), (claim,)])[-1][0]
        assert isinstance(claimed, seam.Claimed)
        return claimed.jobs

    def finished(self) -> int:
        return sum(count.jobs for count in self._engine.counts(grammar.DEFAULT_DOMAIN) if count.state in model.TERMINAL)

    def close(self) -> None:
        self._engine.close()

    def _ends(self, claims: list[model.Job]) -> list[seam.Unit]:
        now = self._clock.now()
        return [(_end(job, bytes([number & 127]), now),) for number, job in enumerate(claims)]

    def _apply(self, units: list[seam.Unit]) -> list[Any]:
        results = self._engine.apply(units)
        assert not any(isinstance(each, seam.Refused) for each in results)
        return results


def _end(job: model.Job, result: bytes, now: int) -> seam.Settle:
    outcome = states.succeeded(job, result, now).outcome
    return seam.Settle(job.domain, job.id, job.node or b"", job.fence, outcome)
