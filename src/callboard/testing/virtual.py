"""Virtual time for asyncio: nothing waits, and many processes live in one.

A `Timeline` holds what is due, now and later. When nothing is due now, time jumps to the next timer; when there is no timer
either, it raises `Stuck` instead of hanging. Each simulated process has an event loop of its own on it (`Timeline.loop`),
which can be frozen, thawed and killed as the kernel does it: between two steps, without a word to what runs in it. Threads
are none: what is handed to one runs inline. Same program and same seed: same order of everything.

Simulations and tests call it; `simnet` is the network that goes with it.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import heapq
import itertools
from asyncio import events
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any, TypeVar

from callboard.kit import clock

T = TypeVar("T")
_PRUNE_AT = 256


class Stuck(RuntimeError):
    """Raised when somebody waits, nothing is due and no timer is set: outside of virtual time this would hang for ever."""


class Handle(events.Handle):
    """Something to run, made at little cost. `when` is the loop's time for a timer, None for what is due at once."""

    __slots__ = ("_when",)

    def __init__(
        self,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        loop: VirtualLoop,
        context: Context | None = None,
        when: float | None = None,
    ) -> None:
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = context if context is not None else copy_context()
        self._cancelled = False
        self._when = when

    def cancel(self) -> None:
        self._cancelled = True

    def cancelled(self) -> bool:
        return self._cancelled

    def when(self) -> float | None:
        return self._when

    def __repr__(self) -> str:
        return f"<Handle {self._callback!r} when={self._when}>"


class Timeline:
    """Time, and what is due on it. `now` is true time in seconds; the loops' clocks may differ from it and from each other."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        """Callbacks run so far: what a simulation costs."""
        self._ready: collections.deque[Handle] = collections.deque()
        self._timers: list[tuple[float, int, Handle]] = []
        self._order = itertools.count()
        self._loops: list[VirtualLoop] = []

    def loop(self, *, offset_seconds: float = 0.0, rate: float = 1.0) -> VirtualLoop:
        """Return an event loop for one more process; its clock shows `offset_seconds + rate * now`."""
        made = VirtualLoop(self, offset_seconds, rate)  # type: ignore[abstract]  # Sockets, pipes and signals it has none.
        self._loops.append(made)
        return made

    def at(self, when: float, handle: Handle) -> None:
        """Let a handle run at a true time."""
        heapq.heappush(self._timers, (when, next(self._order), handle))

    def run(self, loop: VirtualLoop, main: Coroutine[Any, Any, T], *, until: float = float("inf")) -> T:
        """Run `main` on one of the loops and everything beside it, until it ends. Raises what it raises, `Stuck`, and
        TimeoutError when it has not ended at the true time `until`."""
        task: asyncio.Task[T] = loop.create_task(main)
        around = events._get_running_loop()
        try:
            self._advance(task.done, until)
        finally:
            events._set_running_loop(around)
            if not task.done():
                task.cancel()
        return task.result()

    def _advance(self, done: Callable[[], bool], until: float) -> None:
        """Run what is due until `done()`. This is where a simulation spends its time: no calls that are not needed."""
        ready, run_on = self._ready, events._set_running_loop
        running: VirtualLoop | None = None
        while not done():
            if not ready:
                self._jump(until)
            handle = ready.popleft()
            if handle._cancelled:
                continue
            loop = handle._loop
            if loop.held is not None:
                loop.held.append(handle)
                continue
            self.steps += 1
            if loop is not running:
                run_on(loop)
                running = loop
            try:
                handle._context.run(handle._callback, *handle._args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as failure:
                loop.call_exception_handler({"message": f"exception in {handle._callback!r}", "exception": failure})

    def _jump(self, until: float) -> None:
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if not timers:
            raise Stuck(f"at {self.now:.6f} s nothing is due and no timer is set, and somebody still waits")
        if timers[0][0] > until:
            raise TimeoutError(f"not ended at {until:g} s of virtual time")
        if timers[0][0] > self.now:
            self.now = timers[0][0]
        while timers and timers[0][0] <= self.now:
            self._ready.append(heapq.heappop(timers)[2])

    def close(self) -> None:
        """End every process, the killed ones too: their tasks are cancelled, so that nothing is left to the garbage collector."""
        around = events._get_running_loop()
        for loop in self._loops:
            loop.held = None
        try:
            for _ in range(10):  # One that swallows its cancellation is asked again.
                tasks = [task for loop in self._loops for task in loop.tasks() if not task.done()]
                for task in tasks:
                    task.cancel()
                with contextlib.suppress(Stuck, TimeoutError):
                    self._advance(lambda: not self._ready, self.now)
                if not tasks:
                    break
        finally:
            events._set_running_loop(around)
            self._timers.clear()
            self._ready.clear()
            for loop in self._loops:
                loop.close()


class VirtualLoop(asyncio.AbstractEventLoop):
    """The event loop of one simulated process. It has timers, tasks and inline executors, and no sockets."""

    def __init__(self, timeline: Timeline, offset_seconds: float, rate: float) -> None:
        self.timeline = timeline
        self.held: list[Handle] | None = None
        """What would have run, while the process is frozen or dead; None while it runs."""
        self.complaints: list[dict[str, Any]] = []
        """What reached the loop's exception handler: a test looks that it is empty."""
        self._offset = offset_seconds
        self._rate = rate
        self._dead = False
        self._closed = False
        self._tasks: list[asyncio.Task[Any]] = []
        self._prune_at = _PRUNE_AT

    # What a simulation does to it.

    @property
    def dead(self) -> bool:
        return self._dead

    @property
    def frozen(self) -> bool:
        return self.held is not None and not self._dead

    def freeze(self) -> None:
        """Run nothing of it from now on, as SIGSTOP does."""
        if self.held is None:
            self.held = []

    def thaw(self, order: Callable[[list[Handle]], None] | None = None) -> None:
        """Run all that was due meanwhile, at once: its clock has moved on. `order` may shuffle timers among the rest."""
        if self.held is not None and not self._dead:
            held, self.held = self.held, None
            if order is not None:
                order(held)
            self.timeline._ready.extend(held)

    def kill(self) -> None:
        """Run nothing of it ever again, as SIGKILL does: no cancellation, no `finally`."""
        self.freeze()
        self._dead = True

    def tasks(self) -> list[asyncio.Task[Any]]:
        """Return the tasks that were begun here and may not have ended."""
        return self._tasks

    # What asyncio asks of a loop.

    def time(self) -> float:
        return self._offset + self._rate * self.timeline.now

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Handle:  # type: ignore[override]
        handle = Handle(callback, args, self, context)
        self.timeline._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]  # Whatever a callback returns is dropped.
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        now = self.timeline.now
        handle = Handle(callback, args, self, context, self._offset + self._rate * now + delay)
        self.timeline.at(now + delay / self._rate if delay > 0 else now, handle)
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        handle = Handle(callback, args, self, context, when)
        self.timeline.at(max((when - self._offset) / self._rate, self.timeline.now), handle)
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.append(task)  # Held: a killed process's tasks must not be ended by the garbage collector meanwhile.
        if len(self._tasks) > self._prune_at:
            self._tasks = [task for task in self._tasks if not task.done()]
            self._prune_at = max(_PRUNE_AT, 2 * len(self._tasks))
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Run it inline, and say so soon."""
        future: asyncio.Future[T] = asyncio.Future(loop=self)
        try:
            future.set_result(func(*args))
        except Exception as failure:
            future.set_exception(failure)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._dead and not self._closed:
            self.complaints.append(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self._closed

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True

    async def shutdown_asyncgens(self) -> None:
        """Nothing: generators of a simulated process end with it."""


class VirtualClock:
    """The clock of one simulated process, `kit.clock.Clock`: what its loop shows. Each machine counts from its own start."""

    def __init__(self, loop: VirtualLoop, now: int = 1_800_000_000 * clock.SECOND) -> None:
        self._loop = loop
        self._now = now

    def now(self) -> int:
        return self._now + int(self._loop.timeline.now * clock.SECOND)

    def boot(self) -> int:
        return int(self._loop.time() * 1e9)


def run(main: Callable[[VirtualLoop], Awaitable[T]], *, until: float = float("inf")) -> T:
    """Run one coroutine on virtual time, in one process: `virtual.run(lambda loop: told(loop))`. Everything is ended after it."""
    timeline = Timeline()
    loop = timeline.loop()

    async def body() -> T:
        return await main(loop)

    try:
        return timeline.run(loop, body(), until=until)
    finally:
        timeline.close()
