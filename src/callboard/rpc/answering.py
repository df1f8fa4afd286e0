"""The requests that come over one connection: each runs in a task of its own until it ends, expires or is not wanted any more.

`connection` brings them and takes the answers away. `outcome` is also how a node calls itself.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
import structlog

from callboard import errors
from callboard.kit import clock
from callboard.rpc import asking, deadlines, frames, limits, serving

DATA_BYTES: Final = 64 << 10
"""What an error's data may take; more is left out."""

log = structlog.get_logger()


class Answering:
    """Requests under way. On one event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sender: asking.Sender,
        table: serving.Table,
        clock: clock.Clock,
        caller: str,
        limits: limits.Limits,
    ) -> None:
        self.running: dict[int, asyncio.Task[None]] = {}
        self._ending: dict[asyncio.Task[None], None] = {}
        """Those that nobody waits for and that have not noticed yet."""
        self._loop = loop
        self._sender = sender
        self._table = table
        self._clock = clock
        self._caller = caller
        self._limits = limits
        self._last = 0
        self._deadlines = deadlines.Deadlines(loop, self.cancel)

    @property
    def count(self) -> int:
        return len(self.running) + len(self._ending)

    def requested(self, request: frames.Request) -> None:
        """Begin to run a request, or refuse it. Raises MalformedFrame when its id was used before."""
        if request.id <= self._last:
            raise errors.MalformedFrame(f"request {request.id} came after request {self._last}")
        self._last = request.id
        if self.count >= self._limits.in_flight:
            said = f"{self._limits.in_flight} requests of node {self._caller} run here already"
            self._refuse(request.id, errors.Overloaded(said, ran="no"))
        elif request.budget_us <= 0:
            self._refuse(request.id, errors.DeadlineExceeded("the request came with no time left", ran="no"))
        else:
            self.running[request.id] = self._loop.create_task(self._run(request))
            self._deadlines.add(request.id, self._loop.time() + request.budget_us / 1e6)

    def cancel(self, id: int) -> None:
        """Nobody waits for a request any more: stop its handler, and answer nothing."""
        task = self.running.pop(id, None)
        if task is not None:
            self._deadlines.at.pop(id, None)
            self._ending[task] = None
            task.add_done_callback(self._gone)
            task.cancel()

    def stop(self) -> list[asyncio.Task[None]]:
        """Stop all handlers; return those that have not ended yet."""
        for id in list(self.running):
            self.cancel(id)
        self._deadlines.stop()
        return list(self._ending)

    async def _run(self, request: frames.Request) -> None:
        id = request.id
        try:
            answer = await outcome(self._table, request, self._clock, self._caller, self._limits.message_bytes)
        except asyncio.CancelledError:
            if id not in self.running:
                raise
            answer = failure(id, errors.ServiceError(f"{request.name} {request.method} cancelled itself", ran="yes"))
        if self.running.pop(id, None) is None:
            return
        self._deadlines.at.pop(id, None)
        self._sender.send(answer, len(answer.result) if type(answer) is frames.Reply else frames.OVERHEAD)
        if not self.running:
            self._sender.ended()

    def _gone(self, task: asyncio.Task[None]) -> None:
        del self._ending[task]
        if not task.cancelled() and task.exception() is not None:
            log.error("a handler that was cancelled failed", why=repr(task.exception()))
        self._sender.ended()

    def _refuse(self, id: int, error: errors.CallboardError) -> None:
        self._sender.send(failure(id, error), frames.OVERHEAD)


async def outcome(
    table: serving.Table, request: frames.Request, clock: clock.Clock, caller: str, message_bytes: int
) -> frames.Reply | frames.Failure | frames.Elsewhere:
    """Run a request and return the frame that answers it. Raises nothing but CancelledError."""
    try:
        if len(request.args) > message_bytes:
            raise errors.TooLarge(f"arguments over {message_bytes} bytes", limit=message_bytes, ran="no")
        deadline = clock.boot() + request.budget_us * 1000
        call = serving.Call(request.name, request.domain, request.method, request.epoch, caller, deadline, request.meta or {})
        answer = await table.serve(request, call)
        if type(answer) is bytes:
            if len(answer) <= message_bytes:
                return frames.Reply(request.id, answer)
            said = f"{request.name} {request.method} returned {len(answer)} bytes: {message_bytes} is the most"
            raise errors.InvalidResult(said, ran="yes", limit=message_bytes)
        if isinstance(answer, frames.Elsewhere):
            return answer
        raise errors.InvalidResult(f"{request.name} {request.method} returned {type(answer).__name__}, no bytes", ran="yes")
    except errors.CallboardError as error:
        return failure(request.id, error)
    except Exception as error:
        log.exception("a method failed", name=request.name, method=request.method)
        return failure(request.id, errors.ServiceError(f"{type(error).__name__}: {error}", ran="yes"))


def failure(id: int, error: errors.CallboardError) -> frames.Failure:
    """Return the frame for an error; data that cannot travel is left out."""
    data = {"ran": "yes", **error.data}
    try:
        if len(msgspec.msgpack.encode(data)) > DATA_BYTES:
            data = {"ran": data["ran"]}
    except (TypeError, ValueError, OverflowError, RecursionError):
        data = {"ran": data["ran"] if data["ran"] in ("no", "unknown") else "yes"}
    message = f"{error.message:.2000}".encode("utf-8", "replace").decode()
    return frames.Failure(id, error.code, message, error.retryable, data)
