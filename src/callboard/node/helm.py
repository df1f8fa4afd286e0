"""Where an agent is steered from: a signal of this machine, wishes of operators, a newer version of the cluster's file.

What they change while it serves is done here: nodes are replaced one after another, drained, or adopted by the agent that this
one becomes.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import msgspec
import structlog

from callboard import errors
from callboard.coordination import engine, sessions
from callboard.kit import lifecycle
from callboard.node import children, layout, nursery, orders, published, rebirth, renewal, server_entry
from callboard.settings import Settings

log = structlog.get_logger()


class Helm(lifecycle.Lifecycle):
    """The helm of one agent. On one event loop; `speak` and `take` come before its start."""

    def __init__(self, given: Settings, file: published.File, again: rebirth.Again, mark: rebirth.Mark | None) -> None:
        """`file` is what the settings are from, `again` how the agent is started anew, `mark` why this one was."""
        super().__init__()
        self.left = asyncio.Event()
        """Set when the agent is to be started anew: its nodes are left at work then."""
        self.wish = 0
        """Number of the wish that it is to be started anew for."""
        self.file = file
        self.again = again
        self.mark = mark
        self._settings = given
        self._speaker: rebirth.Speaker | None = None
        self._nodes: nursery.Nursery | None = None
        self._rolling: renewal.Renewal | None = None
        self._orders: orders.Orders | None = None
        self._parts: list[lifecycle.Lifecycle] = []
        self._tasks: set[asyncio.Task[str]] = set()

    def speak(self, session: sessions.ProcessSession, incarnation: str) -> None:
        """Tell commands through the agent's session."""
        self._speaker = rebirth.Speaker(session, incarnation)

    def take(self, session: engine.Session, entry: server_entry.ServerEntry, nodes: nursery.Nursery) -> None:
        """Steer these nodes, by what coordination says."""
        place, mark = layout.Layout(self._settings.directory), self.mark
        self._nodes = nodes
        self._rolling = renewal.Renewal(nodes, lambda renewing, trouble: self._say(renewing=renewing, trouble=trouble))
        self._orders = orders.Orders(
            session,
            entry,
            nodes,
            self._rolling,
            drained=place.drained,
            grace_seconds=self._settings.worker.grace_seconds + children.STOP_SECONDS,
            again=self.reload,
            born_for=mark.wish if mark is not None else 0,
        )
        self._parts = [self._rolling, self._orders, published.Published(session, self.file, self._overtaken)]

    async def reload(self, wish: int = 0) -> str:
        """Have this agent started anew, by what its software and its settings are now; return why not, in one line."""
        why = await asyncio.to_thread(rebirth.refused, self.again)
        if why:
            log.error("not reloaded: it goes on as it was", why=why)
            self._say(refusals=self._speaker.word.refusals + 1 if self._speaker else 1, why=why)
            return why
        log.info("reloading")
        self.wish = wish
        self.left.set()
        return ""

    def reload_soon(self) -> None:
        """The same, without an answer."""
        task = asyncio.create_task(self.reload(), name="reload")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def look(self) -> None:
        """A node has ended: that may have been wished."""
        if self._orders is not None:
            self._orders.look()

    async def _start(self) -> None:
        for part in self._parts:
            await part.start()
        if self._rolling is not None and self._nodes is not None:
            if not layout.Layout(self._settings.directory).drained.exists():  # Else its nodes are being ended.
                self._rolling.begin()
            self._say(ready=True, renewing=self._nodes.due() is not None)

    async def _stop(self) -> None:
        for part in reversed(self._parts):
            await part.stop()

    def _overtaken(self) -> None:
        if self._nodes is not None and self._rolling is not None:
            self._nodes.want(msgspec.structs.replace(self._settings, stands=False))
            self._rolling.begin()

    def _say(self, **changes: Any) -> None:
        if self._speaker is not None:
            with contextlib.suppress(errors.DataUnusable):  # As on a full disk. The log has it, too.
                self._speaker.say(msgspec.structs.replace(self._speaker.word, **changes))
