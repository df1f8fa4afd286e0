"""What operators wish of this server and its nodes (`cluster.wishes`), brought about by its agent.

Level, not edge: whatever stands is looked at again after each change, and after each start. That this server is to run no nodes
is also kept in the data directory, so that an agent that starts while coordination is out of reach starts none.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final

import structlog

from callboard import errors
from callboard.cluster import wishes
from callboard.coordination import engine, heeding
from callboard.kit import backoff
from callboard.names import model
from callboard.node import children, nursery, renewal, server_entry

FIRST_DELAY_SECONDS: Final = 0.05
LONGEST_DELAY_SECONDS: Final = 2.0
LOST_SECONDS: Final = 60.0
"""How long a wish for a node that coordination does not know stands until it is removed: its agent died, too."""

log = structlog.get_logger()


class Orders(heeding.Heeding):
    """Obeys for one agent. On one event loop."""

    def __init__(
        self,
        session: engine.Session,
        entry: server_entry.ServerEntry,
        nodes: nursery.Nursery,
        rolling: renewal.Renewal,
        *,
        drained: Path,
        grace_seconds: float,
        again: Callable[[int], Awaitable[str]],
        born_for: int,
    ) -> None:
        """`drained` is the file that is there while this server is to run no nodes. `again(number)` starts the agent anew for a
        wish, and returns why it does not; `born_for` is the number of the wish that this one was started for."""
        super().__init__(session, (model.WISHES,))
        self._entry = entry
        self._nodes = nodes
        self._rolling = rolling
        self._drained = drained
        self._grace_seconds = grace_seconds
        self._again = again
        self._born_for = born_for
        self._server: model.Wish | None = None
        """What was wished of the server at the last look."""
        self._leaving: dict[str, children.Ward] = {}
        """Nodes that were asked to leave for a wish."""
        self._unknown: dict[str, float] = {}
        """Nodes of nobody, and when a wish for them was seen first."""
        self._work: asyncio.Task[None] | None = None

    def look(self) -> None:
        """Look again soon: a node has ended."""
        self.woken.set()

    async def _start(self) -> None:
        if self._drained.exists():
            await self._begin_drain()
        self.woken.set()
        await super()._start()

    async def _stop(self) -> None:
        await super()._stop()
        await self._work_on(None)

    async def _keep(self) -> None:
        delays = backoff.Backoff(FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOST_SECONDS / 2 if self._unknown else None):
                    await self.woken.wait()
            self.woken.clear()
            try:
                found = await wishes.read(self._session)
                await self._heed_server(found.get(wishes.of_server(self._entry.facts.server)))
                await self._heed_nodes(found)
                delays.succeeded()
            except (errors.CoordinationError, OSError) as error:
                if isinstance(error, OSError):
                    log.error("what is wished cannot be brought about yet", why=f"{self._drained}: {error.strerror}")
                self.woken.set()
                await asyncio.sleep(delays.failed())

    async def _heed_server(self, standing: wishes.Standing | None) -> None:
        wished = standing.wish if standing is not None else None
        empty = self._drained.exists()
        if wished is not None and wished.what == "drain":
            if not empty:
                log.info("this server is drained, as somebody wished", by=wished.by)
                self._drained.touch(mode=0o600)
                await self._begin_drain()
            return
        if empty:
            await self._end_drain()
        if wished != self._server and standing is not None:
            await self._work_on(self._renewed(standing))
        self._server = wished

    async def _begin_drain(self) -> None:
        await self._rolling.cancel()
        await self._work_on(self._emptied())

    async def _emptied(self) -> None:
        await self._entry.tell(state="draining")
        await self._nodes.empty(self._grace_seconds, asyncio.Event())
        await self._entry.tell(state="drained")
        log.info("this server is drained: it runs no nodes until that is taken back")

    async def _end_drain(self) -> None:
        log.info("this server is not to be drained any more")
        await self._work_on(None)
        self._drained.unlink(missing_ok=True)
        self._nodes.fill()
        await self._entry.tell(state="serving")

    async def _renewed(self, standing: wishes.Standing) -> None:
        """Start the agent anew; the one that is born of that replaces the nodes, and says how it ended."""
        if standing.number == self._born_for:
            trouble = await self._rolling.begin(every=True)
        else:
            trouble = await self._again(standing.number)
            if not trouble:
                return
        await self._entry.tell(trouble=trouble)
        await self._fulfil(standing)

    async def _work_on(self, work: Coroutine[Any, Any, None] | None) -> None:
        """Let go of what was being done for the server, and do this."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        self._work = asyncio.create_task(_logged(work), name="wish") if work is not None else None

    async def _fulfil(self, standing: wishes.Standing) -> None:
        delays = backoff.Backoff(FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS)
        while True:
            try:
                await wishes.fulfil(self._session, standing)
                return
            except errors.CoordinationError:
                await asyncio.sleep(delays.failed())

    async def _heed_nodes(self, found: Mapping[str, wishes.Standing]) -> None:
        unknown = {}
        for path, standing in found.items():
            node = wishes.node_of(path)
            if node is None:
                continue
            if node in self._nodes.wards:
                self._dismiss(node, standing.wish)
            elif node in self._leaving:
                await wishes.fulfil(self._session, standing)
                del self._leaving[node]
            else:
                unknown[path] = standing
        await self._bury(unknown)

    def _dismiss(self, node: str, wished: model.Wish) -> None:
        if node not in self._leaving:
            ward = self._leaving[node] = self._nodes.wards[node]
            log.info("node is drained, as somebody wished", node=node, by=wished.by)
            self._nodes.dismiss(ward)

    async def _bury(self, unknown: Mapping[str, wishes.Standing]) -> None:
        """Remove wishes for nodes that are gone, and with them who would have said so."""
        known = {each.name for each in await self._session.entries(model.NODES)} if unknown else set()
        now = asyncio.get_running_loop().time()
        before, self._unknown = self._unknown, {}
        for path, standing in unknown.items():
            if wishes.node_of(path) in known:
                continue
            since = self._unknown[path] = before.get(path, now)
            if now - since >= LOST_SECONDS:
                await wishes.fulfil(self._session, standing)


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:
        log.exception("what is wished of this server failed: it stays wished")
