"""The nodes of a server, replaced one after another, so that it goes on serving all the while.

What has to be replaced is told by the nursery: nodes that do not do what is wanted now, or all that an earlier agent started. The
next one is replaced when the new one is ready and the old one has ended. A new one that cannot start stops it all, and the rest
goes on as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from callboard.kit import lifecycle
from callboard.node import nursery, report

DIED: Final = "it died before it was ready: see its log"

log = structlog.get_logger()


class Renewal(lifecycle.Lifecycle):
    """Replaces the nodes of one nursery. On one event loop."""

    def __init__(self, nodes: nursery.Nursery, told: Callable[[bool, str], None]) -> None:
        """`told(renewing, trouble)` is called when nodes begin to be replaced, and at the end, with why that stopped short."""
        super().__init__()
        self._nodes = nodes
        self._told = told
        self._rolling = asyncio.Lock()
        self._tasks: set[asyncio.Task[str]] = set()

    def begin(self, *, every: bool = False) -> asyncio.Task[str]:
        """Replace what has to be replaced, after what is being replaced already; `every` is all nodes of earlier agents.

        The task returns why it stopped short, an empty text when it did not.
        """
        task = asyncio.create_task(self._roll(every), name="renewal")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def cancel(self) -> None:
        """Replace nothing any more; who was asked to leave leaves."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _stop(self) -> None:
        await self.cancel()

    async def _roll(self, every: bool) -> str:
        async with self._rolling:
            place = self._nodes.due(every=every)
            if place is None:
                return ""
            log.info("renewal begins")
            trouble = ""
            try:
                self._told(True, "")
                trouble = await self._replaced(place, every)
            finally:
                self._told(False, trouble)
            if trouble:
                log.error("renewal stopped: the rest goes on", why=trouble)
            else:
                log.info("renewal is complete")
            return trouble

    async def _replaced(self, place: nursery.Place | None, every: bool) -> str:
        while place is not None:
            old = place.ward
            log.info("node is replaced", role=place.role, index=place.index, node=old.record.incarnation if old else "")
            why = _why_not(await self._nodes.replace(place))
            if why:
                return f"{place.name} cannot be replaced: {why}"
            place = self._nodes.due(every=every)
        return ""


def _why_not(said: report.Report | None) -> str:
    if said is None:
        return DIED
    return said.message if said.code else ""
