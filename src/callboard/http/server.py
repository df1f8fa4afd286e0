"""Serving an ASGI application from this process's own event loop, on uvicorn.

No signal handlers, no process exits, no access log: those belong to the node. The application's routes and errors belong to
whoever made it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from asyncio import transports
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import uvicorn
from uvicorn.protocols.http import httptools_impl

from callboard import errors
from callboard.kit import lifecycle, ports

KEEP_ALIVE_SECONDS = 75
"""How long an idle connection stays open; longer than clients keep theirs, so that they close first."""
BACKLOG = 1024
LAST_WORD_SECONDS = 0.2
TURN_SECONDS = 0.005


class Server(lifecycle.Lifecycle):
    """Listens from `start` to `drain` or `stop`.

    `drain` closes the listening socket, lets requests in hand end within the grace time, and cuts off the rest.
    Raises PortInUse at start when another process listens there, InvalidSetting for a host that is not this machine's.
    """

    def __init__(self, app: Any, host: str, port: int) -> None:
        super().__init__()
        self._host = host
        self._port = port
        config = uvicorn.Config(
            app,
            http=_Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        self._server = _Embedded(config)
        self._serving: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that is listened on: the one given, or the one found when 0 was given."""
        return self._port

    @property
    def url(self) -> str:
        """Where this machine reaches the server."""
        return self.url_at("::1" if self._host == "::" else "127.0.0.1")

    def url_at(self, own: str) -> str:
        """Return where the server is reached by those who reach this machine at `own`."""
        host = own if self._host in ("", "0.0.0.0", "::") else self._host
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    def connections(self) -> list[dict[str, Any]]:
        """Return the open connections, the oldest first: `peer`, `since` (UTC), and how many `requests` came over each."""
        found = [each for each in self._server.server_state.connections if isinstance(each, _Connection)]
        return [each.facts() for each in sorted(found, key=lambda each: each.since)]

    async def _start(self) -> None:
        listener = bind(self._host, self._port)
        self._port = listener.getsockname()[1]
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]), name="http server")
        up = asyncio.create_task(self._server.up.wait())
        await asyncio.wait({self._serving, up}, return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        if self._serving.done():
            await self._serving

    async def _drain(self, grace_seconds: float) -> None:
        await self._leave(grace_seconds)

    async def _stop(self) -> None:
        await self._leave(0)

    async def _leave(self, grace_seconds: float) -> None:
        if self._serving is not None:
            self._server.leave(grace_seconds)
            await self._serving
            self._serving = None


class _Embedded(uvicorn.Server):
    """uvicorn without its own signals, woken once a second instead of ten times, and gone as soon as its requests are."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self._over = asyncio.Event()
        self._grace_seconds = 0.0

    def leave(self, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._over.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def main_loop(self) -> None:
        while not self._over.is_set():
            await self.on_tick(0)  # writes the date header anew
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._over.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        self._dismiss()
        await asyncio.sleep(TURN_SECONDS)  # a connection accepted a moment ago is introduced in the loop's next turns
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._grace_seconds):
                await self._emptied()
        for task in self.server_state.tasks:
            task.cancel()
        if self.server_state.tasks:  # an application may still say that it was cut off
            await asyncio.wait(self.server_state.tasks, timeout=LAST_WORD_SECONDS)
        for connection in tuple(self.server_state.connections):
            connection.transport.abort()
        await self._emptied()

    def _dismiss(self) -> None:
        for connection in tuple(self.server_state.connections):
            connection.shutdown()

    async def _emptied(self) -> None:
        """Return when all requests are answered and all connections closed: idle ones now, others after their answer."""
        while self.server_state.tasks or self.server_state.connections:
            self._dismiss()
            if self.server_state.tasks:
                await asyncio.wait(self.server_state.tasks, timeout=LAST_WORD_SECONDS)
            else:
                await asyncio.sleep(TURN_SECONDS)


class _Connection(httptools_impl.HttpToolsProtocol):
    """One connection, with what is told of it."""

    def connection_made(self, transport: transports.Transport) -> None:  # type: ignore[override]
        self.since = datetime.now(UTC)
        self.requests = 0
        super().connection_made(transport)

    def on_message_begin(self) -> None:
        self.requests += 1
        super().on_message_begin()

    def facts(self) -> dict[str, Any]:
        host, port = self.client or ("", 0)
        since = self.since.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {"peer": f"[{host}]:{port}" if ":" in host else f"{host}:{port}", "since": since, "requests": self.requests}


def bind(host: str, port: int) -> socket.socket:
    """Return a TCP socket bound to an address of this machine; `port` 0 takes a free one. Errors as `Server` says."""
    if not 0 <= port <= 65_535:  # The system would take it modulo 65,536.
        raise errors.InvalidSetting(f"port {port} is out of range: 0 to 65535")
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _unbound(host, port, error) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)  # binding alone does not refuse a port on which another one listens
    except OSError as error:
        listener.close()
        raise _unbound(host, port, error) from None
    return listener


def _unbound(host: str, port: int, error: Exception) -> errors.CallboardError:
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        given = ports.clients()
        theirs = f" outside of {given[0]} to {given[-1]}, which this machine gives to clients" if port in given else ""
        return errors.PortInUse(
            f"port {port} of {host} is in use: stop the process that has it, or choose another with --port{theirs}", port=port
        )
    if number in (errno.EACCES, errno.EPERM):
        return errors.StartupError(f"port {port} of {host} may not be used by this user: choose one over 1023", port=port)
    return errors.InvalidSetting(f"cannot listen on {host!r:.80} port {port}: {error}; give an address of this machine")
