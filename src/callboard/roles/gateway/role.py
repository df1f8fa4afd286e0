"""The gateway as a role of a node: puts its parts together, serves, drains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from callboard.http import server
from callboard.jobs import kinds as declared
from callboard.jobs import queue as queues
from callboard.roles import role
from callboard.roles.gateway import desk as desks
from callboard.roles.gateway import edge, health, keys, metrics, roster, site, waits


class Gateway(role.Role):
    """Serves the HTTP API of one store. The queue is started before and stopped after it, by whoever made it.

    `kinds` are those of the app, if there is one: their submissions get its defaults and have their arguments checked.
    `entries` reads the entries of live nodes without blocking the loop. Errors at start as `http.server.Server` says.
    """

    name: ClassVar[str] = "gateway"

    def __init__(
        self,
        queue: queues.Queue,
        kinds: Mapping[str, declared.Kind],
        host: str,
        port: int,
        entries: roster.Entries,
        max_body_bytes: int = desks.MAX_BATCH_BODY,
    ) -> None:
        super().__init__()
        self._desk = desks.Desk(
            queue=queue,
            kinds=kinds,
            keyring=keys.Keyring(queue),
            roster=roster.Roster(entries, queue.clock),
            waits=waits.Waits(queue),
            metrics=metrics.Metrics(queue),
            health=health.Health(queue),
            max_batch_body=max_body_bytes,
        )
        self._server = server.Server(edge.Edge(cast(edge.App, site.build(self._desk)), self._desk), host, port)

    @property
    def url(self) -> str:
        """Where this machine reaches it; known once it is started."""
        return self._server.url

    def facts(self) -> Mapping[str, Any]:
        return {"url": self.url}

    async def ping(self) -> Mapping[str, Any]:
        return {**await super().ping(), "open_requests": self._desk.metrics.open_requests}

    async def _start(self) -> None:
        self._desk.keyring.start()
        await self._server.start()

    async def _drain(self, grace_seconds: float) -> None:
        self._desk.health.draining = True
        self._desk.waits.end()
        await self._server.drain(grace_seconds)

    async def _stop(self) -> None:
        self._desk.waits.end()
        await self._server.stop()
        self._desk.keyring.stop()
