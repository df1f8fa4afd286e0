"""A connection to an ensemble on the event loop: what its threads learn hops over. Knows nothing of entries."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final

from callboard.ensembles import address, connection, requests

Interrupted = connection.Interrupted
Refused = connection.Refused
Link = connection.Link
DELETED = connection.DELETED
_TURNS: Final = 5


class Driver:
    """One connection, kept up for as long as it lives. `told` is called on the loop whenever it changes.

    Raises InvalidSetting, for an address whose files or packages are not there.
    """

    def __init__(self, of: address.Address, session_seconds: float, told: Callable[[Link], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._told = told
        self._connection = connection.Connection(of, session_seconds, self._changed)
        self.granted_seconds = session_seconds

    @property
    def trouble(self) -> str:
        """Why there is no connection, in a few words; empty when there is one, or nobody knows."""
        return self._connection.trouble

    @property
    def refused(self) -> bool:
        """Whether the login was refused last."""
        return self._connection.refused

    def start(self) -> None:
        """Begin to connect, and to call `told`."""
        self._connection.start()

    def multi(self, steps: Sequence[requests.Step]) -> requests.Multi:
        """Return steps as one request."""
        return self._connection.multi(steps)

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
        number = self._connection.number
        for request, answer in zip(requests, answers, strict=True):
            self._connection.send(request, answer, number)
        for answer in answers:
            if not await self._came(answer.future):
                self._connection.leave(number)
                raise Interrupted("the server is silent")
        return [connection.understood(answer.future.result()) for answer in answers]

    async def stop(self) -> None:
        """End the session, if it can be said to the server within a second. Allowed twice."""
        await asyncio.to_thread(self._connection.stop)

    async def _came(self, future: asyncio.Future[Any]) -> bool:
        """Wait for an answer; in several turns, so that a loop that was held up itself does not blame the server."""
        for _ in range(_TURNS):
            if future.done():
                break
            await asyncio.wait([future], timeout=self._connection.silence_seconds / _TURNS)
        return future.done()

    def _changed(self, link: Link) -> None:
        """Called in a thread of the library's, in the order of the changes."""
        self.hop(self._turned, link, self._connection.granted_seconds)

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
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits.
            self._loop.call_soon_threadsafe(self._take, value)

    set_exception = set

    def _take(self, value: object) -> None:
        if not self.future.done():
            self.future.set_result(value)
