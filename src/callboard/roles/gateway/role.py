"""The gateway as a role of a node: puts its parts together, serves, drains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, cast

import msgspec

from callboard.app import exposure, services
from callboard.cluster import watching
from callboard.coordination import engine
from callboard.http import server
from callboard.jobs import kinds as declared
from callboard.jobs import queue as queues
from callboard.roles import role
from callboard.roles.gateway import desk as desks
from callboard.roles.gateway import edge, health, keys, metrics, roster, site, waits

SHOWN_CONNECTIONS: Final = 1000
"""Connections of each kind that are listed: more would make the answer too big."""


class Connections(msgspec.Struct, frozen=True):
    """The open connections of a gateway and of its node."""

    http: list[dict[str, Any]]
    """From clients: `peer`, `since` (UTC), `requests` until now."""
    rpc: list[dict[str, Any]]
    """To and from other nodes."""
    open: dict[str, int]
    """How many there are of each kind, shown or not."""


class Gateway(role.Role):
    """Serves the HTTP API of one store. The queue is started before and stopped after it, by whoever made it.

    `kinds` are those of the app, if there is one: their submissions get its defaults and have their arguments checked.
    `entries` reads the entries of the data directory's live nodes without blocking the loop. `calls` finds named services,
    `calls_ready` tells whether it can, `names` knows what is behind them, `coordination` is the node's part in that,
    `node_connections` lists its connections with other nodes, `view` is its cluster view, `own` is where others reach this
    machine.
    Errors at start as `http.server.Server` says.
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
        *,
        calls: services.Caller | None = None,
        calls_ready: Callable[[], bool] | None = None,
        node_connections: Callable[[], Sequence[dict[str, Any]]] = list,
        names: desks.Names | None = None,
        coordination: engine.Session | None = None,
        view: watching.Watched | None = None,
        own: str = "127.0.0.1",
    ) -> None:
        super().__init__()
        self._own = own
        self._node_connections = node_connections
        live = roster.Roster(entries, coordination, queue.clock)
        self._desk = desks.Desk(
            queue=queue,
            kinds=kinds,
            keyring=keys.Keyring(queue),
            roster=live,
            waits=waits.Waits(queue),
            metrics=metrics.Metrics(queue, live.nodes),
            health=health.Health(queue, calls_ready or (lambda: calls is not None)),
            calls=calls,
            names=names,
            coordination=coordination,
            view=view,
            max_batch_body=max_body_bytes,
        )
        self._server = server.Server(edge.Edge(cast(edge.App, site.build(self._desk)), self._desk), host, port)

    @property
    def url(self) -> str:
        """Where this machine reaches it; known once it is started."""
        return self._server.url

    @exposure.method(idempotent=True)
    async def connections(self) -> Connections:
        """List the open connections: of HTTP clients, and of the node with others."""
        clients, nodes = self._server.connections(), self._node_connections()
        number = {"http": len(clients), "rpc": len(nodes)}
        return Connections(clients[:SHOWN_CONNECTIONS], list(nodes[:SHOWN_CONNECTIONS]), number)

    def facts(self) -> Mapping[str, Any]:
        return {"url": self._server.url_at(self._own)}

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
