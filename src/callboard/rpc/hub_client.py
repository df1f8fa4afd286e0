"""A process's connection to the hub of its machine: found by the address file, kept up in the background.

While there is no hub (its agent is dead, or not yet started), what is published is dropped, and the file is looked at once
a second for the next one. Used by `jobs.hub_hints`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import cast

import structlog

from callboard.kit import backoff, lifecycle
from callboard.rpc import hub, hub_frames

CONNECT_SECONDS = 2.0
LOOK_SECONDS = 1.0

log = structlog.get_logger()


class HubClient(lifecycle.Lifecycle):
    """Publishes to the hub and calls `received(topic, body)` for what others publish. All on one event loop.

    `start` connects when there is a hub, and goes on without one when there is none.
    """

    def __init__(self, file: Path, received: Callable[[int, bytes], None], changed: Callable[[], None] = lambda: None) -> None:
        """`changed` is called when `wanted` is another one."""
        super().__init__()
        self.wanted: frozenset[int] = frozenset()
        """Topics that somebody else wants; empty while there is no connection."""
        self._file = file
        self._received = received
        self._changed = changed
        self._topics: frozenset[int] = frozenset()
        self._link: _Link | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        return self._link is not None

    def publish(self, topic: int, body: bytes) -> None:
        """Send to whoever else wants the topic; nothing happens when nobody does or too much waits already."""
        if self._link is not None and topic in self.wanted:
            self._link.offer(hub_frames.encode(hub_frames.Publish(topic, body)))

    def want(self, topic: int, wanted: bool = True) -> None:
        """Say whether messages of a topic are to come here. Kept over reconnections."""
        topics = self._topics | {topic} if wanted else self._topics - {topic}
        if topics != self._topics:
            self._topics = topics
            if self._link is not None:
                self._link.send(hub_frames.Want(tuple(topics)))

    def delivered(self, topic: int, body: bytes) -> None:
        if topic in self._topics:
            self._received(topic, body)

    def told(self, wanted: frozenset[int]) -> None:
        if wanted != self.wanted:
            self.wanted = wanted
            self._changed()

    async def _start(self) -> None:
        link = await self._connect()
        self._keeper = asyncio.create_task(self._keep(link), name="hub-client")

    async def _stop(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if self._link is not None:
            self._lost()

    async def _keep(self, link: _Link | None) -> None:
        delays = backoff.Backoff(LOOK_SECONDS, 5.0)
        while True:
            if link is not None:
                delays.succeeded()
                await link.gone.wait()
                self._lost()
                link = await self._connect()  # At once: the next hub may be there already.
            if link is None:
                await self._file_changed(delays.failed())
                link = await self._connect()

    async def _file_changed(self, at_most_seconds: float) -> None:
        """Wait until the address file is another one, or until it is time to try the same one again."""
        before = self._stamp()
        for _ in range(max(1, round(at_most_seconds / LOOK_SECONDS))):
            await asyncio.sleep(LOOK_SECONDS)
            if self._stamp() != before:
                return

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino

    async def _connect(self) -> _Link | None:
        address = hub.read_address(self._file)
        if address is None:
            return None
        link = _Link(self, address.secret, tuple(self._topics))
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().create_connection(lambda: link, address.host, address.port)
                await link.admitted.wait()
        except (OSError, TimeoutError):
            link.close()
            return None
        except BaseException:
            link.close()
            raise
        if link.gone.is_set():
            return None
        self._link = link
        link.send(hub_frames.Want(tuple(self._topics)))  # What changed while the greeting was under way.
        return link

    def _lost(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = None
        self.told(frozenset())


class _Link(asyncio.Protocol):
    """One connection."""

    def __init__(self, client: HubClient, secret: str, topics: tuple[int, ...]) -> None:
        self.admitted = asyncio.Event()
        """Let in, or gone."""
        self.gone = asyncio.Event()
        self._client = client
        self._hello = hub_frames.Hello(secret, topics)
        self._splitter = hub_frames.Splitter()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.send(self._hello)

    def connection_lost(self, error: Exception | None) -> None:
        self.gone.set()
        self.admitted.set()

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._splitter.feed(data):
                if isinstance(message, hub_frames.Publish):
                    self._client.delivered(message.topic, message.body)
                elif isinstance(message, hub_frames.Wanted):
                    self._client.told(frozenset(message.topics))
                    self.admitted.set()
        except hub_frames.Malformed as error:
            log.warning("the hub sent what is no message", why=str(error))
            self.close()

    def offer(self, frame: bytes) -> None:
        if self._transport is not None and self._transport.get_write_buffer_size() < hub.BACKLOG_BYTES:
            self._write(frame)

    def send(self, message: hub_frames.Message) -> None:
        self._write(hub_frames.encode(message))

    def _write(self, frame: bytes) -> None:
        """A closed transport may raise, for as long as nobody has noticed yet that the hub is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
