"""What a bare driver is asked, so that an engine's own limit can be measured: inserts, claims and ends of jobs, in batches.

`raw_mysql` and `raw_postgresql` are the hands; `hands` runs two of them at a time. The rows are those of jobs without tags
and meta, with small arguments and results, in a table with the same columns; indexed are the primary key, the identity and what
a claim needs.
"""

from __future__ import annotations

import os
import time
from typing import Any, Final, Protocol

PRIORITY: Final = 5
DIGEST: Final = bytes(range(16))
ARGS: Final = b"\x81\xa1n\xcd\x01\x00"
"""What a job of the throughput measurement is given: `{"n": 256}`."""
INSERTED: Final = (
    "domain, id, route, state, sort, priority, run_at, fence, run, max_attempts, codec, digest, args, tags, meta, backoff,"
    " timeout, submitted_at"
)
CLAIMED: Final = (
    "seq, domain, id, route, priority, run_at, fence, run, attempts, max_attempts, deaths, codec, digest, args, tags, meta,"
    " backoff, timeout, submitted_at"
)


class Hand(Protocol):
    """One connection of one process. Everything but `create` commits, forced to the disk, before it returns."""

    def create(self) -> None:
        """Make the table anew, empty."""

    def insert(self, jobs: int) -> None:
        """Insert so many available jobs of one kind, in one statement."""

    def claim(self, limit: int) -> list[Any]:
        """Take the first available jobs, at most `limit`; return what `end` needs of each."""

    def end(self, claims: list[Any]) -> int:
        """Store a result of its own for each claim; return how many were still held."""

    def turn(self, claims: list[Any], limit: int) -> list[Any]:
        """End claims and make the next ones, in one commit."""

    def finished(self) -> int:
        """Return how many finished jobs Callboard's own tables in this database count."""

    def close(self) -> None:
        """Disconnect."""


class Driver(Protocol):
    """The module of a hand."""

    FAILURES: type[Exception]
    """Base of what the driver raises."""

    def Hand(self, url: str, host: int = 0) -> Hand:
        """Connect to one of a URL's hosts."""


def hosts(url: str) -> int:
    """Return how many servers a URL names."""
    return len(url.partition("://")[2].rpartition("@")[2].partition("/")[0].split(","))


def ids(jobs: int) -> list[bytes]:
    """Return new ids that grow with time, as jobs have them."""
    stamp = (time.time_ns() // 1_000_000).to_bytes(6, "big")
    chance = os.urandom(10 * jobs)
    return [stamp + chance[start : start + 10] for start in range(0, 10 * jobs, 10)]
