"""Cutting many submissions into requests, and reading what became of each. Only `calls` uses it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

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


def receipts(answered: shapes.BatchResults, before: int) -> list[shapes.Receipt]:
    """Return the receipts of a batch, or raise what its first refused job met; `before` jobs went ahead of it."""
    for index, each in enumerate(answered.results):
        if each.error is not None:
            raise http.named(each.error.code)(f"job {before + index}: {each.error.detail}", index=before + index, id=each.id)
    return [shapes.Receipt(each.id, each.domain, each.state, each.created) for each in answered.results]
