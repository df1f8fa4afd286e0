"""Async handlers, run in the node's own event loop by a few long-lived tasks.

A task a job would cost more than most small handlers do. A runner is a task that runs one handler after another: each is
stepped by hand inside a context of its own, and as long as it does not wait for anything, the next one follows without a
turn of the loop. A handler that waits keeps its runner, which is its current task: timeouts, task groups and cancellation
work in it as in any task. The first waiting handler makes the next runner take over what is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import time
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final

from callboard import errors
from callboard.app import context
from callboard.roles.worker import endings
from callboard.roles.worker.run import Keeper, Run

STREAK_SECONDS: Final = 0.005
"""How long handlers that do not wait follow each other before the loop has its turn."""

_now = time.perf_counter


class Loop:
    """A `run.Place`. Runners are made as they are needed, never more than handlers wait at a time, and one."""

    def __init__(self, keeper: Keeper, max_result: int) -> None:
        self._keeper = keeper
        self._max_result = max_result
        self._waiting: deque[Run] = deque()
        self._runners: set[asyncio.Task[None]] = set()
        self._parked: list[asyncio.Future[None]] = []
        self._called = False
        """A runner is on its way to look at what waits."""
        self._closed = False

    def begin(self, run: Run) -> None:
        self._waiting.append(run)
        if not self._called:
            self._call()

    def end(self, run: Run) -> None:
        if run.means is not None:
            run.means.cancel()
        # A handler that has not begun is met by its runner, and not begun.

    async def close(self) -> None:
        self._closed = True
        for parked in self._parked:
            parked.set_result(None)
        for runner in self._runners:
            runner.cancel()
        if self._runners:
            await asyncio.wait(self._runners, timeout=1.0)

    def _call(self) -> None:
        """Have one runner look at what waits."""
        self._called = True
        if self._parked:
            self._parked.pop().set_result(None)
        else:
            runner = asyncio.get_running_loop().create_task(self._serve(), name="callboard-runner")
            self._runners.add(runner)
            runner.add_done_callback(self._runners.discard)

    async def _serve(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._called = False
        until = _now() + STREAK_SECONDS
        while not self._closed:
            if not self._waiting:
                await self._park()
                until = _now() + STREAK_SECONDS
                continue
            run = self._waiting.popleft()
            if self._waiting and not self._called:
                self._call()
            suspended = self._step(run)
            if suspended is not None:
                await self._follow(run, task, *suspended)
            if task.cancelling() or _now() > until:
                await _turn(task)
                until = _now() + STREAK_SECONDS

    async def _park(self) -> None:
        parked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._parked.append(parked)
        try:
            await parked
        except asyncio.CancelledError:
            # From `close`, or from a handler that kept hold of its task and cancelled it after its own end.
            if parked in self._parked:
                self._parked.remove(parked)
        else:
            self._called = False

    def _step(self, run: Run) -> tuple[Coroutine[Any, Any, Any], contextvars.Context, Any] | None:
        """Begin a handler: None when it ended without waiting, else what it takes to go on with it."""
        if run.cancelled:
            self._keeper.stopped(run)
            return None
        declared = run.handler
        try:
            values = declared.arguments.decode(run.job.args)
        except errors.InvalidArguments as error:
            self._keeper.failed(run, endings.refused(error))
            return None
        own = contextvars.copy_context()
        try:
            call = declared.call(values, self._context(run) if declared.arguments.wants_context else None)
            return call, own, own.run(call.send, None)
        except StopIteration as stop:
            self._returned(run, stop.value)
        except BaseException as error:
            self._keeper.failed(run, endings.failure(error))
        return None

    async def _follow(
        self, run: Run, task: asyncio.Task[None], call: Coroutine[Any, Any, Any], own: contextvars.Context, awaited: Any
    ) -> None:
        """Go on with a handler that waits, to its end."""
        run.means = task
        self._keeper.goes_on(run)
        try:
            value = await _drive(call, own, awaited)
        except GeneratorExit:
            raise
        except BaseException as error:
            run.means = None
            self._keeper.failed(run, endings.failure(error))
        else:
            run.means = None
            self._returned(run, value)

    def _context(self, run: Run) -> context.Context:
        return context.Context(run.job, run, functools.partial(run.handler.result.encode_within, self._max_result))

    def _returned(self, run: Run, value: Any) -> None:
        result = None if run.joined else endings.encoded(run.handler, value, self._max_result)
        if isinstance(result, endings.Failure):
            self._keeper.failed(run, result)
        else:
            self._keeper.completed(run, result)


@types.coroutine
def _drive(call: Coroutine[Any, Any, Any], own: contextvars.Context, awaited: Any) -> Generator[Any, Any, Any]:
    """Await a coroutine that has been begun by hand and waits for `awaited`, each step in its own context."""
    while True:
        try:
            sent = yield awaited
        except GeneratorExit:
            own.run(call.close)
            raise
        except BaseException as error:
            step: Callable[[Any], Any] = call.throw
            given: Any = error
        else:
            step, given = call.send, sent
        try:
            awaited = own.run(step, given)
        except StopIteration as stop:
            return stop.value
        except GeneratorExit as error:  # To let it pass would end the runner.
            raise RuntimeError("the handler raised GeneratorExit") from error


async def _turn(task: asyncio.Task[None]) -> None:
    """Give the loop a turn, and make the task as new: a cancellation meant for a handler may come too late for it."""
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
    while task.cancelling():
        task.uncancel()
