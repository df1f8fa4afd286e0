"""A store with a long queue: how fast claims and ends of claims are beside an empty one, and what a job weighs on disk.

Straight on the SQLite engine, without workers: the rate of claims of 200 and their ends, the best of some rounds.
"""

from __future__ import annotations

import contextlib
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from callboard.jobs import engine as seam
from callboard.jobs import engines, model, states, submission
from callboard.kit import clock, grammar, uuid7

CLAIM = 200
ROUNDS = 60
FILL = 1_000

_clock = clock.SystemClock()


def measure(jobs: int, store: str | None = None) -> dict[str, Any]:
    """Return claim rates: beside few jobs, behind `jobs` of the same kind, and with as many of unknown kinds in front as well.

    `store` is the URL of another, empty store than a new SQLite file; what a job weighs is not known there.
    """
    with (
        tempfile.TemporaryDirectory(prefix="callboard-bench-") as folder,
        contextlib.closing(engines.open(store) if store else _open(folder)) as engine,
    ):
        _fill(engine, "bench.noop", CLAIM * (ROUNDS + 1))
        empty = _rate(engine)
        _fill(engine, "bench.noop", jobs)
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        full = _rate(engine)
        _fill(engine, "elsewhere.unknown", jobs, priority=0)
        unknown = _rate(engine)
        return {
            "jobs": jobs,
            "claims_per_second_empty": round(empty),
            "claims_per_second_full": round(full),
            "claims_per_second_unknown_in_front": round(unknown),
            "full_to_empty": round(full / empty, 3),
            "unknown_to_empty": round(unknown / empty, 3),
            **({} if store else {"bytes_per_job": round(size / jobs)}),
            "rss_mib_max": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }


def sizes(jobs: int, batches: Sequence[int]) -> dict[str, int]:
    """Return rows/s of durable submissions for each batch size."""
    rates = {}
    for batch in batches:
        with tempfile.TemporaryDirectory(prefix="callboard-bench-") as folder, contextlib.closing(_open(folder)) as engine:
            began = time.perf_counter()
            count = min(jobs, batch * 400)
            _fill(engine, "bench.noop", count, batch=batch)
            rates[str(batch)] = round(count / (time.perf_counter() - began))
    return rates


def _open(folder: str) -> seam.Engine:
    return engines.open(f"sqlite://{folder}/callboard.db")


def _fill(engine: seam.Engine, kind: str, jobs: int, *, batch: int = FILL, priority: int | None = None) -> None:
    given = submission.Submission(kind=kind, args={"n": 1}, priority=priority)
    for start in range(0, jobs, batch):
        now = _clock.now()
        engine.apply([(seam.Put(submission.build(given, {}, now), now),) for _ in range(min(batch, jobs - start))])


def _rate(engine: seam.Engine) -> float:
    """Return jobs/s of claiming and ending, the median of the rounds."""
    node = uuid7.make(_clock.now())
    take = seam.Take(grammar.DEFAULT_DOMAIN, model.DEFAULT_QUEUE, model.Lane.LONG, (("bench.noop", (1,)),), CLAIM)
    ends: list[seam.Unit] = []
    rates = []
    for _ in range(ROUNDS):
        now = _clock.now()
        began = time.perf_counter()
        results = engine.apply([*ends, (seam.Claim(node, (take,), CLAIM, now),)])
        rates.append(CLAIM / (time.perf_counter() - began))
        ends = [(_end(job, now),) for job in _claimed(results[-1])]
    engine.apply(ends)
    return statistics.median(rates[1:])


def _claimed(result: seam.UnitResult) -> list[model.Job]:
    if isinstance(result, seam.Refused) or not isinstance(result[0], seam.Claimed):
        raise AssertionError(result)
    return result[0].jobs


def _end(job: model.Job, now: int) -> seam.Settle:
    ended = states.succeeded(job, b"\xc0", now)
    return seam.Settle(job.domain, job.id, job.node or b"", job.fence, ended.outcome)
