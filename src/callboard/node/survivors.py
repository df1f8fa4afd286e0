"""Who else lives on this data directory, and whose claims nobody answers for any more.

Nodes that outlived a dead agent, and those whose agent died while they started, are adopted as soon as they show up. Users'
processes that run a worker of their own hold a session too: they are never touched, and when their session is gone (the kernel
frees it with the process) their claims end like those of a node.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

import msgspec
import structlog

from callboard import errors
from callboard.coordination import sessions
from callboard.jobs import queue
from callboard.node import layout, nursery

GRAVE_SWEEPS: Final = 2
"""How many sweeps find no claim of a dead node before it is forgotten: a database may commit its last one after its death."""

log = structlog.get_logger()


class Survivors:
    """Compares sessions, records and claims. On the agent's event loop."""

    def __init__(
        self,
        lives: sessions.ProcessSessions,
        place: layout.Layout,
        nodes: nursery.Nursery,
        dead: Callable[[bytes], None],
        *,
        owns_store: bool,
        store_url: str,
        start_seconds: float,
    ) -> None:
        """`owns_store`: whoever claims from the store has a session here, as when the store lies in this directory."""
        self._lives = lives
        self._layout = place
        self._nodes = nodes
        self._dead = dead
        self._owns_store = owns_store
        self._store_url = store_url
        self._start_seconds = start_seconds
        self._known: frozenset[str] = frozenset()
        self._graves: dict[str, int] = {}
        """Dead nodes whose claims were ended, and how many sweeps they are still answered for."""

    def look(self) -> None:
        """Take notice of sessions that came and went. Cheap: called at every look of the agent."""
        try:
            found = self._lives.sessions()
        except errors.DataUnusable as error:
            log.warning("sessions cannot be read", why=error.message)
            return
        live = frozenset(incarnation for name in found if (incarnation := layout.incarnation_of(name)))
        for incarnation in self._known - live - self._nodes.wards.keys():
            self._dead(bytes.fromhex(incarnation))
        self._known = live
        strangers = [each for incarnation in live - self._nodes.wards.keys() if (each := self._found(incarnation)) is not None]
        # Of two for one place the newest one has it, but none that is only starting: it may never be ready.
        for record, entry in sorted(strangers, key=lambda each: (bool(each[1].roles), each[0].incarnation), reverse=True):
            self._nodes.adopt(record, entry.process, leaving=entry.state == "draining")

    @property
    def known(self) -> Collection[str]:
        """Everybody who is answered for: who lived here at the last look (nodes, and users' own processes), the dead of late."""
        return self._known | self._nodes.wards.keys() | self._graves.keys()

    def close(self) -> None:
        """Forget the dead: nobody is answered for any more."""
        for incarnation in self._graves:
            self._layout.forget(incarnation)
        self._graves.clear()

    def bury(self, incarnation: str) -> None:
        """Answer for a dead node, whose claims were ended, a while longer."""
        self._graves[incarnation] = GRAVE_SWEEPS

    async def sweep(self, store: queue.Queue) -> None:
        """End the claims of those without a session, and remove what the dead left behind. Raises StoreError."""
        claimants = [node for node, _ in await store.claimants()]
        # In this order: who claimed before it was asked had its session then, so who has none now is dead.
        live = self._live()
        for node in claimants:
            if node.hex() not in live and (self._owns_store or self._layout.record(node.hex()).exists()):
                self._dead(node)
        needed = {*live, *(node.hex() for node in claimants)}
        self._forget(needed)
        self._clean(needed | self._graves.keys())

    def _live(self) -> Collection[str]:
        names = self._lives.sessions()
        return {found for name in names if (found := layout.incarnation_of(name))} | self._nodes.wards.keys()

    def _found(self, incarnation: str) -> tuple[layout.NodeRecord, layout.NodeEntry] | None:
        """Only what an agent started has a record; everything else with a session is a user's own process."""
        try:
            record = layout.read_record(self._layout.record(incarnation))
        except (OSError, msgspec.MsgspecError):
            return None
        entries = map(layout.entry, self._lives.entries(layout.NODES + incarnation))
        return next(((record, entry) for entry in entries if entry is not None), None)

    def _forget(self, needed: Collection[str]) -> None:
        for incarnation in self._graves.keys() - needed:
            self._graves[incarnation] -= 1
            if self._graves[incarnation] == 0:
                del self._graves[incarnation]
                self._layout.forget(incarnation)

    def _clean(self, needed: Collection[str]) -> None:
        """A young record may belong to a node that is only starting; an old one without session and claims is of no use: unless
        its claims are in another store, which this directory served before and may serve again.
        """
        self._lives.sweep()
        for path in self._layout.nodes.glob("*.json"):
            with contextlib.suppress(OSError):
                young = time.time() - path.stat().st_mtime <= 2 * self._start_seconds
                if path.stem not in needed and not young and not self._elsewhere(path):
                    self._layout.forget(path.stem)

    def _elsewhere(self, path: Path) -> bool:
        try:
            return layout.read_record(path).settings.store_url != self._store_url
        except msgspec.MsgspecError:
            return False
