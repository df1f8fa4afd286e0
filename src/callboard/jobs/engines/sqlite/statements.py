"""The texts of the write statements, and the little that makes them: what `writes` runs.

Big statements take their rows as one JSON text (`json_each`) or as a long VALUES list in one of a few sizes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import msgspec

from callboard.jobs.engines.sqlite import schema

T = TypeVar("T")

CHUNKS: Final = (400, 100, 25, 5, 1)
"""Jobs in a VALUES list: few sizes, so that each text is prepared once (and stays under apsw's 16 KiB for cached ones)."""
TAG_CHUNKS: Final = (1_600, 400, 100, 25, 5, 1)
"""Tags in one, likewise."""
INLINE_BYTES: Final = 8192
"""Bytes of arguments or results up to which they travel inside the JSON of a big statement."""


def _values(columns: int, rows: int) -> str:
    one = "(" + ",".join("?" * columns) + ")"
    return ",".join([one] * rows)


def _texts(sizes: tuple[int, ...], make: Callable[[int], str]) -> dict[int, str]:
    return {size: make(size) for size in sizes}


INSERT: Final = _texts(CHUNKS, lambda n: f"INSERT INTO jobs({schema.INSERTED}) VALUES {_values(17, n)} ON CONFLICT DO NOTHING")
INSERT_CLAIMED: Final = _texts(
    CHUNKS, lambda n: f"INSERT INTO jobs({schema.INSERTED_CLAIMED}) VALUES {_values(19, n)} ON CONFLICT DO NOTHING"
)
INSERT_TAGS: Final = _texts(TAG_CHUNKS, lambda n: f"INSERT OR IGNORE INTO job_tags VALUES {_values(3, n)}")
SETTLE: Final = (
    "UPDATE jobs INDEXED BY jobs_identity SET state = v.state, run_at = v.run_at, attempts = v.attempts,"
    " deaths = v.deaths, finished_at = v.finished_at, result = v.result, reason = v.reason, node = NULL,"
    " progress = CASE WHEN v.state >= 6 THEN progress END FROM (SELECT value ->> 0 AS domain, unhex(value ->> 1) AS id,"
    " value ->> 2 AS fence, value ->> 3 AS state, value ->> 4 AS run_at, value ->> 5 AS attempts, value ->> 6 AS deaths,"
    " value ->> 7 AS finished_at, unhex(value ->> 8) AS result, value ->> 9 AS reason FROM json_each(?)) AS v"
    " WHERE jobs.domain = v.domain AND jobs.id = v.id AND +jobs.fence = v.fence AND +jobs.node = ?"
    " AND +jobs.state = 3 AND +jobs.cancel_requested = 0"
)
"""The domain is in every entry, though it is the same: as a constant it would tempt the planner to walk the whole domain."""
READY: Final = (
    "SELECT * FROM (SELECT seq, priority, run_at FROM jobs INDEXED BY jobs_ready WHERE state = 2 AND route = ?"
    " AND seq NOT IN (SELECT value FROM json_each(?1)) ORDER BY priority, run_at, seq LIMIT ?2)"
)
"""The first available jobs of a route, without those (1) that an earlier take of the same claim has; at most (2)."""
BEST: Final = (
    "SELECT json_group_array(seq), count(*) FROM"
    " (SELECT seq FROM json_each(?) CROSS JOIN jobs ON seq = value ORDER BY priority, run_at, seq LIMIT ?)"
)
CLAIMED: Final = (
    "SELECT json_group_array(json_array(seq, hex(jobs.id), route, priority, run_at, fence, run, attempts, max_attempts, deaths,"
    f" codec, hex(digest), CASE WHEN length(args) <= {INLINE_BYTES} THEN hex(args) END, tags, meta, backoff, timeout,"
    " submitted_at)) FROM json_each(?) CROSS JOIN jobs ON seq = value"
)
_rows = msgspec.json.Decoder(
    list[
        tuple[
            int, str, int, int, int, int, int, int, int, int, int, str, str | None, str | None, str | None, int, int | None, int
        ]
    ]
)
claimed_rows = _rows.decode
"""Read what CLAIMED returns."""
UPDATE: Final = (
    "UPDATE jobs SET state = ?, priority = ?, run_at = ?, fence = ?, run = ?, attempts = ?, deaths = ?, node = ?,"
    " cancel_requested = ?, started_at = ?, finished_at = ?, result = ?, reason = ?, progress = ? WHERE seq = ?"
)


@functools.cache
def first(routes: int) -> str:
    """Return the query for the first available jobs of some routes: their rows as JSON, and how many they are."""
    union = " UNION ALL ".join(READY.replace("route = ?", f"route = ?{number}") for number in range(3, routes + 3))
    return f"SELECT json_group_array(seq), count(*) FROM ({union} ORDER BY priority, run_at, seq LIMIT ?2)"


def joined(arrays: list[str]) -> str:
    """Return JSON arrays as one, without reading them."""
    return "[" + ",".join(array[1:-1] for array in arrays if array != "[]") + "]"


def chunks(items: list[T], sizes: tuple[int, ...] = CHUNKS) -> Iterator[list[T]]:
    """Return the items in as few lists of these sizes as there can be, in their order."""
    start = 0
    while start < len(items):
        size = next(size for size in sizes if size <= len(items) - start)
        yield items[start : start + size]
        start += size
