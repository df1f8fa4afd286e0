"""The client library on the event loop: what its threads learn hops over, and none of its exceptions goes further.

A `Driver` is one connection to an ensemble, kept up by the library for as long as it lives: it says CONNECTED, SUSPENDED and
LOST, and after LOST begins a session of its own accord. Knows nothing of entries.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import random
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from kazoo import client, exceptions, retry
from kazoo.protocol import connection, serialization, states

_log = logging.getLogger("callboard.coordination.zookeeper")
_log.setLevel(logging.ERROR)
"""The library says every try to connect; what of it matters is said once, by the session."""
_LEAST_SILENCE_SECONDS: Final = 0.5
_TURNS: Final = 5
_RETRY: Final = {"max_tries": -1, "delay": 0.05, "max_jitter": 0.5, "max_delay": 0.5}
_STOP_SECONDS: Final = 1.0
_RESTART_SECONDS: Final = 0.5
DELETED: Final = states.EventType.DELETED
"""What a watcher is told when its node was deleted."""
Watcher = Callable[[Any], None]
"""Called with an event (`type`, `path`) in a thread of the library's: once, then it must be set again."""


class Link(enum.Enum):
    """What the library says of the connection. Its session is over when it says LOST, which it knows only when it is back."""

    CONNECTED = "CONNECTED"
    SUSPENDED = "SUSPENDED"
    LOST = "LOST"


class Interrupted(Exception):
    """Raised when a request's outcome is unknown: the connection was lost, or nothing came back in time."""


class Refused(Exception):
    """Raised when the server refused a request; `code` is ZooKeeper's."""

    def __init__(self, code: int, name: str) -> None:
        super().__init__(name)
        self.code = code


class Driver:
    """One connection. `told` is called on the loop whenever it changes."""

    def __init__(self, hosts: str, session_seconds: float, told: Callable[[Link], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._told = told
        self._client = client.KazooClient(
            hosts=hosts, timeout=session_seconds, connection_retry=retry.KazooRetry(**_RETRY), logger=_log
        )
        self._handler = _Handler(self._client)
        self._client._connection = self._handler
        self._client.add_listener(self._changed)
        self.granted_seconds = session_seconds
        self._stopped = False

    def start(self) -> None:
        """Begin to connect, and to call `told`."""
        self._client.start_async()

    async def ask(self, request: Any) -> Any:
        """Send a request and return its answer. Raises Interrupted, Refused."""
        (answer,) = await self.ask_all([request])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def ask_all(self, requests: Sequence[Any]) -> list[Any]:
        """Send requests one after the other without waiting; return their answers, where one was Refused the exception.

        Raises Interrupted when one has no answer: a server that is silent for a third of the granted time is left.
        """
        answers = [_Answer(self._loop) for _ in requests]
        for request, answer in zip(requests, answers, strict=True):
            self._client._call(request, answer)
        for answer in answers:
            if not await self._came(answer.future):
                self._leave_server()
                raise Interrupted("the server is silent")
        return [_understood(answer.future.result()) for answer in answers]

    async def stop(self) -> None:
        """End the session, if it can be said to the server within a second. Allowed twice."""
        self._stopped = True
        self._client.remove_listener(self._changed)
        ended = asyncio.Event()
        threading.Thread(target=self._end, args=(ended,), daemon=True).start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), _STOP_SECONDS)
            return
        self._leave_server()  # It is silent: the library's threads end when they see the connection broken.
        await ended.wait()

    def _end(self, ended: asyncio.Event) -> None:
        try:
            self._client.stop()
            self._client.close()
        except Exception as error:  # Whatever it is: nobody uses this client any more.
            _log.debug("closing failed: %s", error)
        self.hop(ended.set)

    async def _came(self, future: asyncio.Future[Any]) -> bool:
        """Wait for an answer; in several turns, so that a loop that was held up itself does not blame the server."""
        for _ in range(_TURNS):
            if future.done():
                break
            await asyncio.wait([future], timeout=max(self.granted_seconds / 3, _LEAST_SILENCE_SECONDS) / _TURNS)
        return future.done()

    def _leave_server(self) -> None:
        """Break the connection: the library takes the next server, the session goes on."""
        if self._client.connected:
            self._client._call(connection._CONNECTION_DROP, _Answer(self._loop))

    def _changed(self, state: str) -> None:
        """Called in a thread of the library's, in the order of the changes."""
        self.hop(self._turned, Link(state), self._handler.granted_seconds)
        if self._client.client_state in (states.KeeperState.CLOSED, states.KeeperState.AUTH_FAILED):
            self.hop(self._loop.call_later, _RESTART_SECONDS, self._restart)

    def _restart(self) -> None:
        """Begin anew after the library has given up, which it does when an answer makes no sense to it."""
        if not self._stopped:
            threading.Thread(target=self._client.start_async, daemon=True).start()

    def _turned(self, link: Link, granted_seconds: float) -> None:
        if link is Link.CONNECTED:
            self.granted_seconds = granted_seconds
        self._told(link)

    def hop(self, call: Callable[..., object], *values: object) -> None:
        """Call something on the loop; from any thread."""
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody is there to be told.
            self._loop.call_soon_threadsafe(call, *values)


class _Answer:
    """What the library's thread puts an answer into. It may do so twice; the first one counts."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[Any] = loop.create_future()
        self._loop = loop

    def set(self, value: object = None) -> None:
        with contextlib.suppress(RuntimeError):  # As above.
            self._loop.call_soon_threadsafe(self._take, value)

    set_exception = set

    def _take(self, value: object) -> None:
        if not self.future.done():
            self.future.set_result(value)


class _Handler(connection.ConnectionHandler):  # type: ignore[misc]  # The library has no types.
    """The library's connection, with two things added: the granted session time is kept, and a server that was left comes
    last in the next round."""

    def __init__(self, of: client.KazooClient) -> None:
        super().__init__(of, of._conn_retry.copy(), logger=_log)
        self.granted_seconds = 0.0
        self._last = ""

    def _invoke(self, timeout: float, request: Any, xid: int | None = None) -> Any:
        answer = super()._invoke(timeout, request, xid)
        if isinstance(request, serialization.Connect):
            self.granted_seconds = answer[0].time_out / 1000
        return answer

    def _connect(self, host: str, hostip: str, port: int) -> Any:
        self._last = f"{hostip}:{port}"
        return super()._connect(host, hostip, port)

    def _expand_client_hosts(self) -> list[Any]:
        found: list[Any] = super()._expand_client_hosts()
        return sorted(found, key=lambda each: (f"{each[1]}:{each[2]}" == self._last, random.random()))


_LOST: Final = (exceptions.ConnectionLoss, exceptions.SessionExpiredError, exceptions.SessionMovedError)


def _understood(answer: Any) -> Any:
    if not isinstance(answer, Exception):
        return answer
    if isinstance(answer, exceptions.ZookeeperError) and not isinstance(answer, _LOST):
        return Refused(answer.code, type(answer).__name__)
    raise Interrupted(type(answer).__name__)


def children(path: str, watcher: Watcher | None = None) -> Any:
    """The request for the names below a node."""
    return serialization.GetChildren(path, watcher)


def content(path: str, watcher: Watcher | None = None) -> Any:
    """The request for a node's content and its facts."""
    return serialization.GetData(path, watcher)


def look(path: str, watcher: Watcher) -> Any:
    """The request that watches a node itself."""
    return serialization.Exists(path, watcher)


def sync(path: str) -> Any:
    """The request after which this server knows all that was committed before it."""
    return serialization.Sync(path)
