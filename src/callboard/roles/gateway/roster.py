"""Who is alive and what they know, as the entries of live nodes say it; read at most once a second.

All nodes of the site stand in coordination. Those of this data directory are read there, too: some of them only start.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, Final

import msgspec

from callboard import errors
from callboard.coordination import engine, sessions
from callboard.jobs import model
from callboard.kit import clock as clocks
from callboard.names import model as names

Entries = Callable[[], Awaitable[Iterable[sessions.Entry]]]
"""Reads the entries of this data directory's live sessions; must not block the event loop."""
MAX_AGE_NS: Final = 1_000_000_000
PREFIX: Final = "nodes/"
FEWEST: Final = 4
"""Letters of the end of a node's id that may stand for it."""


class Roster:
    """The live nodes. On one event loop."""

    def __init__(self, entries: Entries, session: engine.Session | None, clock: clocks.Clock) -> None:
        self.partial = False
        """Whether only nodes of this data directory were found, as coordination was out of reach."""
        self._entries = entries
        self._session = session
        self._clock = clock
        self._turn = asyncio.Lock()
        self._nodes: list[dict[str, Any]] = []
        self._read_at: int | None = None

    async def nodes(self) -> list[dict[str, Any]]:
        """Return the facts of each live node, by incarnation, a second old at most."""
        async with self._turn:
            if self._read_at is None or self._clock.boot() - self._read_at > MAX_AGE_NS:
                self._nodes = [facts for body in await self._read() if (facts := _facts(body))]
                self._read_at = self._clock.boot()
            return self._nodes

    async def _read(self) -> list[bytes]:
        found: dict[str, bytes] = {}
        partial = False
        try:
            if self._session is not None:
                found = {entry.path: entry.body for entry in await self._session.entries(names.NODES)}
        except errors.CoordinationError:
            partial = True
        for entry in await self._entries():  # What they say here is newer.
            if entry.path.startswith(PREFIX):
                found[entry.path] = entry.body
        self.partial = partial
        return [found[path] for path in sorted(found)]

    async def waiting_for(self, job: model.Job) -> str | None:
        """Say why no live worker would take a waiting job; None when one would, the job does not wait, or nobody can tell."""
        if job.state not in model.WAITING:
            return None
        try:
            nodes = await self.nodes()
        except errors.CallboardError:
            return None  # A job can be looked at whatever is wrong with coordination.
        workers = [role for node in nodes for role in node.get("roles", ()) if role.get("role") == "worker"]
        knowing = [worker for worker in workers if job.kind in _kinds(worker)]
        able = [worker for worker in knowing if job.version in _kinds(worker)[job.kind]]
        if any(job.domain in worker.get("domains", ()) and job.queue in worker.get("queues", ()) for worker in able):
            return None
        if able:
            return f"no live worker that knows kind {job.kind!r} serves queue {job.queue!r} of domain {job.domain!r}"
        if knowing:
            return f"no live worker knows version {job.version} of kind {job.kind!r}"
        return f"no live worker knows kind {job.kind!r}"


def is_meant(incarnation: str, given: str) -> bool:
    """Tell whether a node is meant by its id or, as tables show it, by the end of that."""
    return incarnation == given or (len(given) >= FEWEST and incarnation.endswith(given))


def meant(given: str, known: Collection[str], what: str) -> str:
    """Return which node is meant. Raises NotFound, which names the nearest one; InvalidInput for an end that several have."""
    found = [each for each in known if is_meant(each, given)]
    if len(found) > 1:
        raise errors.InvalidInput(f"{given!r:.40} is the end of {len(found)} nodes' ids: give more of it")
    if not found:
        ends = {each[-len(given) :] if given else each: each for each in sorted(known)}
        near = difflib.get_close_matches(given, ends, n=1)
        mend = f"did you mean {ends[near[0]]}?" if near else "'callboard nodes' lists those that live"
        raise errors.NotFound(f"no node {given!r:.40} {what}: {mend}")
    return found[0]


def _facts(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError:
        return {}


def _kinds(role: Mapping[str, Any]) -> Mapping[str, Iterable[int]]:
    return role.get("kinds") or {}
