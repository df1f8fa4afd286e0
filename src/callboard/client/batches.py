"""Cutting many submissions into requests, and reading what became of each. Only `calls` uses it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Final

import msgspec

from callboard import errors
from callboard.http import client as http
from callboard.http import shapes
from callboard.jobs import submission

BATCH_JOBS: Final = 10_000
BATCH_BYTES: Final = 12 << 20
"""Bytes of a batch; a gateway takes 16 MiB."""


def cut(jobs: Iterable[submission.Submission]) -> Iterator[list[bytes]]:
    """Yield what fits into one request each."""
    batch: list[bytes] = []
    size = 0
    for job in jobs:
        text = msgspec.json.encode(job)
        if batch and (len(batch) >= BATCH_JOBS or size + len(text) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text) + 1
    if batch:
        yield batch


async def sent(ask: Callable[[bytes], Awaitable[bytes]], batch: Sequence[bytes]) -> list[shapes.Answered]:
    """Send a batch; return what became of each job. What a full store did not take goes again, as long as it takes some of it.

    `ask` takes a body and returns the answer's; what it raises is raised: StoreFull when a full store takes none for too long.
    """
    results: list[shapes.Answered] = []
    left = list(range(len(batch)))
    while left:
        body = await ask(b'{"jobs":[' + b",".join([batch[place] for place in left]) + b"]}")
        answered = msgspec.json.decode(body, type=shapes.BatchResults).results
        results = results or list(answered)
        for place, each in zip(left, answered, strict=True):
            results[place] = each
        refused = [place for place in left if _full(results[place])]
        left = refused if len(refused) < len(left) else []
    return results


def _full(answered: shapes.Answered) -> bool:
    return answered.error is not None and answered.error.code == errors.StoreFull.code


def receipts(answered: Sequence[shapes.Answered], before: int) -> list[shapes.Receipt]:
    """Return the receipts of a batch, or raise what its first refused job met; `before` jobs went ahead of it."""
    for index, each in enumerate(answered):
        if each.error is not None:
            raise http.named(each.error.code)(f"job {before + index}: {each.error.detail}", index=before + index, id=each.id)
    return [shapes.Receipt(each.id, each.domain, each.state, each.created) for each in answered]
