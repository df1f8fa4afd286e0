"""The limit of a ZooKeeper ensemble for Callboard's work: the same nodes written in the same way, by the bare client library.

A job is a node in one of the buckets, made when it is submitted, set when it is claimed and again when it ends, each time at
its version; every request makes a node of the log too, with all that it changes. Nothing is read: who submits also claims and
ends, and knows what there is. Several requests are on their way at a time. Jobs that ended stay, as they do for minutes in
Callboard's store.
"""

from __future__ import annotations

import base64
import collections
from typing import Any, Final

from kazoo import client, exceptions

from callboard.cli.bench import engine_hand, raw

FAILURES: Final = exceptions.KazooException
BUCKETS: Final = 64
MULTI: Final = 200
"""Nodes of jobs that one request writes."""
NEW: Final = bytes(120)
OLD: Final = bytes(135)
"""The content of a job that was just made, and of one that moved: as many bytes as Callboard's."""
CHANGE: Final = bytes(68)
"""What the log says of one that moved; of a new one it says all."""
_ROOT: Final = "/callboard-bench-raw"
_SECONDS: Final = 10.0


class Hand:
    """One session; see `raw.Hand`."""

    def __init__(self, url: str, host: int | None = None) -> None:
        self._url = url
        hosts = url.removeprefix("zookeeper://").partition("/")[0]
        self._client = client.KazooClient(hosts=hosts if host is None else hosts.split(",")[host], timeout=_SECONDS)
        self._client.start(timeout=_SECONDS)
        self._store: engine_hand.Hand | None = None
        self._own: collections.deque[str] = collections.deque()

    def create(self) -> None:
        """Make the buckets, if they are not there: what other rounds left does not matter to a node that is new."""
        for path in [f"{_ROOT}/head", f"{_ROOT}/log", *(f"{_ROOT}/jobs/{bucket:02x}" for bucket in range(BUCKETS))]:
            self._client.ensure_path(path)

    def insert(self, jobs: int) -> None:
        paths = [f"{_ROOT}/jobs/{id[-1] & 63:02x}/{base64.urlsafe_b64encode(id).decode()}.main" for id in raw.ids(jobs)]
        self._commit([("create", path) for path in paths])
        self._own += paths

    def claim(self, limit: int) -> list[Any]:
        return self.turn([], limit)

    def end(self, claims: list[Any]) -> int:
        self._commit([("end", path) for path in claims])
        return len(claims)

    def turn(self, claims: list[Any], limit: int) -> list[Any]:
        claimed = [self._own.popleft() for _ in range(min(limit, len(self._own)))]
        self._commit([*(("end", path) for path in claims), *(("claim", path) for path in claimed)])
        return claimed

    def finished(self) -> int:
        """Asked through Callboard: a bare client would have to read every job."""
        if self._store is None:
            self._store = engine_hand.Hand(self._url)
        return self._store.finished()

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
        self._client.stop()
        self._client.close()

    def _commit(self, writes: list[tuple[str, str]]) -> None:
        """Write all of it, in requests of their own; wait for all."""
        sent = [self._send(writes[start : start + MULTI]) for start in range(0, len(writes), MULTI)]
        for each in sent:
            for result in each.get(timeout=_SECONDS):
                if isinstance(result, Exception):
                    raise result

    def _send(self, writes: list[tuple[str, str]]) -> Any:
        request = self._client.transaction()
        request.check(f"{_ROOT}/head", 0)
        for what, path in writes:
            if what == "create":
                request.create(path, NEW)
            else:
                request.set_data(path, OLD, version=0 if what == "claim" else 1)
        said = [NEW if what == "create" else CHANGE for what, _ in writes]
        request.create(f"{_ROOT}/log/c-", b"".join(said), sequence=True)
        return request.commit_async()
