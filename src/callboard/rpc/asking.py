"""The requests that this node sends over one connection: each waits for its answer, its deadline or the end of the link.

`connection` brings the answers. What went wrong is raised to the caller, with `data["ran"]`.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from callboard import errors
from callboard.rpc import deadlines, frames

LATE_KEPT: Final = 1024
"""How many given-up requests are remembered, to tell a late answer from a second one."""
WATCHED_KEPT: Final = 4096
"""For how many requests, the latest ones, a second answer is looked out for."""
LATE: Final = "it may have run, look at what it did or give it more time"
NOT_SENT: Final = "it was not sent, ask again or give it more time"

Answer = bytes | frames.Elsewhere | frames.Failure | errors.CallboardError


class Sender(Protocol):
    """What a connection offers to those who ask and answer over it."""

    def send(self, frame: frames.Frame, size: int) -> None:
        """Send soon, with what else is sent in this turn of the loop. It carries about `size` bytes."""

    def take_back(self, id: int) -> bool:
        """Remove a request that was not sent yet; tell whether it was still here."""

    def ended(self) -> None:
        """Nothing of one kind is under way any more."""


class Counts(msgspec.Struct):
    """Answers nobody waited for."""

    late: int = 0
    twice: int = 0


class Asking:
    """Requests under way. On one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sender: Sender, peer: str) -> None:
        self.waiting: dict[int, asyncio.Future[Answer]] = {}
        self.counts = Counts()
        self._loop = loop
        self._sender = sender
        self._peer = peer
        self._last = 0
        self._deadlines = deadlines.Deadlines(loop, self._expired)
        self._late: collections.deque[int] = collections.deque(maxlen=LATE_KEPT)
        self._twice: set[int] = set()
        self._again: dict[int, Callable[[], None]] = {}
        self._watched = deadlines.Deadlines(loop, self._forget)

    def new_id(self) -> int:
        """Return the id for the next request."""
        self._last += 1
        return self._last

    async def ask(
        self, request: frames.Request, timeout: float, again: Callable[[], None] | None = None
    ) -> bytes | frames.Elsewhere:
        """Send a request whose id is new, and return its answer. Raises what went wrong.

        `again` is called when a second answer comes before the deadline. When the caller is cancelled, so is the request.
        """
        id = request.id
        self.waiting[id] = future = self._loop.create_future()
        at = self._loop.time() + timeout
        self._deadlines.add(id, at)
        if again is not None:
            self._again[id] = again
            self._watched.add(id, at)
            if len(self._again) > WATCHED_KEPT:
                self._forget(next(iter(self._again)))
        self._sender.send(request, len(request.args) if request.electorate is None else frames.weight(request))
        try:
            answer = await future
        except asyncio.CancelledError:
            self._give_up(id)
            raise
        finally:
            del self.waiting[id]
            self._deadlines.at.pop(id, None)
            if not self.waiting:
                self._sender.ended()
        if self._twice and id in self._twice:
            self._twice.discard(id)
            raise errors.AnsweredTwice(f"node {self._peer} answered {request.name} {request.method} twice", ran="yes")
        return answer if type(answer) is bytes else result(answer)

    def answered(self, id: int, answer: Answer) -> None:
        """Hand an answer to whoever waits for it. Raises MalformedFrame when this was never asked."""
        future = self.waiting.get(id)
        if future is not None and not future.done():
            future.set_result(answer)
        else:
            self._unexpected(id, future)

    def lost(self, why: str, unsent: Sequence[frames.Frame]) -> None:
        """The link is gone: end all that wait. Those whose requests are in `unsent` surely did not run."""
        never = {frame.id for frame in unsent if type(frame) is frames.Request}
        for id, future in self.waiting.items():
            if not future.done():
                ran = "no" if id in never else "unknown"
                future.set_result(errors.ConnectionLost(f"the connection to node {self._peer} broke: {why}", ran=ran))
        self._deadlines.stop()
        self._watched.stop()

    def _expired(self, id: int) -> None:
        future = self.waiting[id]
        if not future.done():
            ran, mend = ("unknown", LATE) if self._give_up(id) else ("no", NOT_SENT)
            future.set_result(errors.DeadlineExceeded(f"no answer of node {self._peer} within the time given: {mend}", ran=ran))

    def _give_up(self, id: int) -> bool:
        """Wait no longer; tell whether the request was sent."""
        if self._sender.take_back(id):
            return False
        self._late.append(id)
        self._sender.send(frames.Cancel(id), 8)
        return True

    def _unexpected(self, id: int, future: asyncio.Future[Answer] | None) -> None:
        if not 0 < id <= self._last:
            raise errors.MalformedFrame(f"an answer to request {id}, which was never sent")
        given_up = future is not None and future.cancelled()
        if given_up or id in self._late:
            self.counts.late += 1
            if not given_up:
                self._late.remove(id)
            return
        self.counts.twice += 1
        if future is not None:
            self._twice.add(id)  # Its caller has not seen the first answer yet: none of them can be trusted.
        again = self._forget(id)
        if again is not None:
            again()

    def _forget(self, id: int) -> Callable[[], None] | None:
        """Look out for no second answer to a request any more; return who was to be told of one."""
        self._watched.at.pop(id, None)
        return self._again.pop(id, None)


def result(answer: bytes | frames.Elsewhere | frames.Failure | errors.CallboardError) -> bytes | frames.Elsewhere:
    """Return what a method answered, or raise what its node said instead."""
    if isinstance(answer, frames.Failure):
        data = {name: value for name, value in answer.data.items() if name not in ("self", "message")}
        raise errors.restored(answer.code, answer.message, answer.retryable, data)
    if isinstance(answer, errors.CallboardError):
        raise answer
    return answer
