"""The thread of a session: does at the desk what it is asked, one thing after the other, and tends it in between.

The event loop is not woken by anything but answers and news: that folders changed, that the database is out of reach or back,
that the session is over.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

import structlog

from callboard import errors
from callboard.coordination.engines.sql import book
from callboard.coordination.engines.sql import desk as desks
from callboard.kit import backoff

T = TypeVar("T")
LOOK_SECONDS: Final = 0.2
LOOK_SHARE: Final = 1 / 10
"""The part of the granted time between two looks, where that is less."""
AGAIN_FIRST_SECONDS: Final = 0.1
AGAIN_MOST_SECONDS: Final = 0.5
BUSY_FIRST_SECONDS: Final = 0.004
BUSY_MOST_SECONDS: Final = 0.06
"""How long to wait when somebody is in the way who does not go on: longer each time."""
log = structlog.get_logger("callboard.coordination")


class Hearer(Protocol):
    """Whom a pulse tells, on the loop."""

    def reached(self, folders: frozenset[str]) -> None:
        """The database answered, and these folders changed."""

    def unreached(self) -> None:
        """The database did not answer."""

    def gone(self, token: bytes) -> None:
        """The life of this token is over."""


class Ask:
    """Something to be done at the desk, and its future answer, unless the one who asked has given up before it is begun."""

    def __init__(self, do: Callable[[desks.Desk], Any], future: asyncio.Future[Any]) -> None:
        self.do = do
        self.future = future
        self.given_up = False
        self.patient = True
        """Whether it may wait for its turn where that is kept: once, as everything else waits with it."""
        self.pauses = backoff.Backoff(BUSY_FIRST_SECONDS, BUSY_MOST_SECONDS)


class Pulse:
    """Begins at once, ends with `stop`. What is public is for the loop."""

    def __init__(self, desk: desks.Desk, hearer: Hearer) -> None:
        self._desk = desk
        self._hearer = hearer
        self._loop = asyncio.get_running_loop()
        self._asked: queue.SimpleQueue[Ask | None] = queue.SimpleQueue()
        self._busy: collections.deque[tuple[float, Ask]] = collections.deque()
        """What somebody else was in the way of, and when it is tried again."""
        self._look_seconds = min(LOOK_SECONDS, desk.granted_seconds * LOOK_SHARE)
        self._again = backoff.Backoff(AGAIN_FIRST_SECONDS, AGAIN_MOST_SECONDS)
        self._ended = asyncio.Event()
        self._stopping = False
        self._said: bool | None = None
        """Whether the last word was that the database answers; None: say it again."""
        self.answered_at = 0.0
        """When the database answered last (time.monotonic). Written by the thread, read by anybody."""
        self._thread = threading.Thread(target=self._run, name=f"coordination-{desk.name}", daemon=True)
        self._thread.start()

    def ask(self, do: Callable[[desks.Desk], T]) -> Ask:
        """Have something done. Its future has what it returns or raises; CoordinationUnavailable instead of Gone."""
        asked = Ask(do, self._loop.create_future())
        self._asked.put(asked)
        return asked

    def doubt(self) -> None:
        """Say with the next answer that the database is in reach, whatever was said before."""
        self._said = None

    async def stop(self, seconds: float) -> None:
        """End the thread; wait for it for so long. What it is in the midst of goes on behind. Allowed twice."""
        self._stopping = True
        self._asked.put(None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()

    # In the thread.

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopping and not self._loop.is_closed():
            asked = self._next(due)
            if asked is not None:
                self._serve(asked)
            if time.monotonic() >= due and not self._stopping:
                due = time.monotonic() + self._tend()
        self._desk.close()
        self._refuse()
        self._hop(self._ended.set)

    def _next(self, due: float) -> Ask | None:
        """Wait for something to do, until the desk is to be tended. What found the database busy comes before what is new."""
        now = time.monotonic()
        if self._busy:
            again, asked = self._busy[0]
            if again <= now:
                self._busy.popleft()
                return asked
            due = min(due, again)
        with contextlib.suppress(queue.Empty):
            return self._asked.get(timeout=max(0.0, due - now))
        return None

    def _serve(self, asked: Ask) -> None:
        if asked.given_up:
            return
        answer: object = None
        error: Exception | None = None
        self._desk.wanted, self._desk.patient = lambda: not asked.given_up, asked.patient
        try:
            answer = asked.do(self._desk)
            self._answered()
        except book.Busy:
            asked.patient = False
            self._busy.append((time.monotonic() + asked.pauses.failed(), asked))
            return
        except book.GivenUp:
            return
        except book.Gone as gone:
            error = errors.CoordinationUnavailable(f"session {self._desk.name!r} is over: read before repeating anything")
            self._hop(self._hearer.gone, gone.token)
        except errors.CoordinationConflict as conflict:
            error = conflict
            self._answered()
        except errors.StoreError as failed:
            error = failed
            self._failed()
        except Exception as failed:
            error = failed
        finally:
            self._desk.wanted, self._desk.patient = lambda: True, False
        self._hop(_answer, asked.future, answer, error)

    def _refuse(self) -> None:
        """Tell those who wait for answers that there will be none."""
        waiting = [asked for _, asked in self._busy]
        while not self._asked.empty():
            left = self._asked.get()
            waiting += [left] if left is not None else []
        over = errors.CoordinationUnavailable(f"session {self._desk.name!r} is closed")
        for asked in waiting:
            self._hop(_answer, asked.future, None, over)

    def _tend(self) -> float:
        """Tend the desk; return the seconds until the next time."""
        try:
            self._desk.tend()
            self._answered()
        except book.Gone as gone:
            self._hop(self._hearer.gone, gone.token)
        except errors.StoreError:
            self._failed()
            return self._again.failed()
        except Exception as error:
            if self._said is not False:
                log.error("coordination cannot be used", session=self._desk.name, error=f"{type(error).__name__}: {error}")
            self._failed()
            return self._again.failed()
        self._again.succeeded()
        return self._look_seconds

    def _answered(self) -> None:
        self.answered_at = time.monotonic()
        folders = self._desk.news()
        if folders or self._said is not True:
            self._said = True
            self._hop(self._hearer.reached, folders)

    def _failed(self) -> None:
        if self._said is not False:
            self._said = False
            self._hop(self._hearer.unreached)

    def _hop(self, call: Callable[..., object], *values: object) -> None:
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody is there to be told.
            self._loop.call_soon_threadsafe(call, *values)


def _answer(future: asyncio.Future[Any], answer: object, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(answer)
    else:
        future.set_exception(error)
