"""One object of a service's class: the calls that run in it, and how they end when it stops serving."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import structlog

from callboard import errors
from callboard.app import services
from callboard.rpc import serving

CUT_SECONDS: Final = 1.0
"""How long a method that was cancelled may take to end before the service goes on without it."""
STOP_SECONDS: Final = 10.0
"""How long the object's own `stop` may take: the office is kept from others meanwhile."""

log = structlog.get_logger()


class Instance:
    """One object of the service's class, and the calls that run in it. On one event loop."""

    def __init__(self, declared: services.Declared, threads: ThreadPoolExecutor) -> None:
        self._object = declared.cls()
        self._name = declared.label
        self._runs = {name: one.bind(self._object, threads).run for name, one in declared.methods.items()}
        self._running: dict[int, asyncio.Task[Any]] = {}
        """The task of each call, which may be the one of a call around it: services here call each other directly."""
        self._cut: set[asyncio.Task[Any]] = set()
        self._quiet = asyncio.Event()
        self.closing = False

    @property
    def calls(self) -> int:
        """Calls that run now."""
        return len(self._running)

    async def start(self) -> None:
        """Call the object's own `start`, if it has one. Raises what that raises."""
        await _own(self._object, "start")

    async def run(self, method: str, call: serving.Call, args: bytes) -> bytes:
        """Run one request. Raises NotActive, `ran="no"`, once this is closing."""
        if self.closing:
            raise errors.NotActive(f"{call.name} stops at this node: look it up again", ran="no")
        task = asyncio.current_task()
        assert task is not None
        self._running[id(call)] = task
        try:
            return await self._runs[method](call, args)
        except asyncio.CancelledError:
            if task not in self._cut:
                raise
            self._cut.discard(task)
            task.uncancel()
            raise errors.ConnectionLost(
                f"{call.name} stopped before {method} had ended: look at what it did", ran="unknown"
            ) from None
        finally:
            del self._running[id(call)]
            if self.closing and not self._running:
                self._quiet.set()

    async def close(self, grace_seconds: float) -> None:
        """Take no more calls, let those that run end within the grace time, cut off the rest, call the object's `stop`."""
        self.closing = True
        if not await self._quietened(grace_seconds):
            self._cut = set(self._running.values())
            for task in tuple(self._cut):
                task.cancel()
            if not await self._quietened(CUT_SECONDS):
                log.warning("methods go on after they were cancelled", service=self._name, calls=len(self._running))
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await _own(self._object, "stop")
        except Exception:
            log.error("the service's stop() raised", service=self._name, exc_info=True)

    async def _quietened(self, seconds: float) -> bool:
        if self._running and seconds > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._quiet.wait()
        return not self._running


async def _own(instance: object, verb: str) -> None:
    own = getattr(instance, verb, None)
    if own is not None and inspect.isawaitable(found := own()):
        await found
