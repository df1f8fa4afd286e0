"""The hub: one per agent, on a loopback port. What one client publishes reaches every other one that wants the topic.

Fire and forget: a client that does not read loses messages, and never holds up another one. Whoever may read the address
file (mode 0600) may take part; the secret in it is new with each hub. The other side is `rpc.hub_client`. Between servers
`node.links` carries on what passes here.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
from pathlib import Path
from typing import cast

import msgspec
import structlog

from callboard.kit import files, lifecycle
from callboard.rpc import hub_frames

FILE = "hub.json"
BACKLOG_BYTES = 1 << 20
"""What may wait for one client; beyond it, published messages are dropped for it."""
HELLO_SECONDS = 5.0
"""How long a connection may take to say who it is."""
_HELLO_LIMIT = 1024

log = structlog.get_logger()


class Address(msgspec.Struct, frozen=True):
    """Where a hub is, as its address file says."""

    host: str
    port: int
    secret: str
    pid: int


def read_address(path: Path) -> Address | None:
    """Return what an address file says; None when there is none, or none that makes sense."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Address)
    except (OSError, msgspec.MsgspecError):
        return None


def write_address(path: Path, address: Address) -> None:
    """Write an address file whole or not at all, readable by its owner alone. Raises OSError."""
    files.write_private(path, msgspec.json.encode(address))


class Hub(lifecycle.Lifecycle):
    """The server. All on one event loop."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__()
        self.secret = secrets.token_urlsafe(32)
        self._host = host
        self._server: asyncio.Server | None = None
        self._clients: set[_Connection] = set()
        self._strangers: set[_Connection] = set()

    @property
    def address(self) -> Address:
        """Where it listens. Only while it runs."""
        assert self._server is not None, "the hub does not run"
        host, port = self._server.sockets[0].getsockname()[:2]
        return Address(host, port, self.secret, os.getpid())

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), self._host, 0)

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in (*self._clients, *self._strangers):
            connection.close()
        if self._server is not None:
            await self._server.wait_closed()

    def connected(self, connection: _Connection) -> None:
        self._strangers.add(connection)

    def admitted(self, connection: _Connection) -> None:
        self._strangers.discard(connection)
        self._clients.add(connection)
        connection.tell(self._wanted_by_others(connection))
        self.wants_changed()

    def gone(self, connection: _Connection) -> None:
        self._strangers.discard(connection)
        if connection in self._clients:
            self._clients.discard(connection)
            self.wants_changed()

    def wants_changed(self) -> None:
        for connection in self._clients:
            wanted = self._wanted_by_others(connection)
            if wanted != connection.told:
                connection.tell(wanted)

    def forward(self, sender: _Connection, message: hub_frames.Publish) -> None:
        frame = b""
        for connection in self._clients:
            if connection is not sender and message.topic in connection.topics:
                frame = frame or hub_frames.encode(message)
                connection.offer(frame)

    def _wanted_by_others(self, connection: _Connection) -> frozenset[int]:
        return frozenset(topic for other in self._clients if other is not connection for topic in other.topics)


class _Connection(asyncio.Protocol):
    """One client, seen from the hub. A stranger until its first message has named the secret."""

    def __init__(self, hub: Hub) -> None:
        self.topics: frozenset[int] = frozenset()
        self.told: frozenset[int] | None = None
        self._hub = hub
        self._splitter = hub_frames.Splitter(_HELLO_LIMIT)
        self._transport: asyncio.Transport | None = None
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._patience = asyncio.get_running_loop().call_later(HELLO_SECONDS, self.close)
        self._hub.connected(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._admit_no_more()
        self._hub.gone(self)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._splitter.feed(data):
                self._received(message)
        except hub_frames.Malformed as error:
            log.warning("hub closes a connection", why=str(error))
            self.close()

    def tell(self, wanted: frozenset[int]) -> None:
        self.told = wanted
        self._write(hub_frames.encode(hub_frames.Wanted(tuple(sorted(wanted)))))

    def offer(self, frame: bytes) -> None:
        """Send, unless too much waits already: a slow client loses messages."""
        if self._transport is not None and self._transport.get_write_buffer_size() < BACKLOG_BYTES:
            self._write(frame)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _received(self, message: hub_frames.Message) -> None:
        if self.told is None:
            self._greeted(message)
        elif isinstance(message, hub_frames.Publish):
            self._hub.forward(self, message)
        elif isinstance(message, hub_frames.Want):
            self.topics = frozenset(message.topics)
            self._hub.wants_changed()

    def _greeted(self, message: hub_frames.Message) -> None:
        self._admit_no_more()
        if not isinstance(message, hub_frames.Hello) or not hmac.compare_digest(
            message.secret.encode(), self._hub.secret.encode()
        ):
            raise hub_frames.Malformed("it does not know the secret")
        self._splitter.limit = hub_frames.MAX_FRAME
        self.topics = frozenset(message.topics)
        self._hub.admitted(self)

    def _admit_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
