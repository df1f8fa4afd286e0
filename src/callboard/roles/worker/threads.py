"""Sync handlers, each in a thread: a pool of our own, as large as the most that ran at once (slots bound that).

A thread cannot be ended from outside: a handler that was told to end looks at `ctx.cancelled`, or goes on with its slot
taken. The threads are daemons, so that such a one does not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque

from callboard.roles.worker import calls, endings
from callboard.roles.worker.run import Keeper, Run

Ended = tuple[Run, bytes | endings.Failure | None, bool]


class Threads:
    """A `run.Place`."""

    def __init__(self, keeper: Keeper, max_result: int) -> None:
        self._keeper = keeper
        self._max_result = max_result
        self._loop = asyncio.get_running_loop()
        self._inbox: queue.SimpleQueue[Run | None] = queue.SimpleQueue()
        self._busy = 0
        self._threads = 0
        self._ended: deque[Ended] = deque()
        self._told = False

    def begin(self, run: Run) -> None:
        self._busy += 1
        if self._busy > self._threads:
            self._threads += 1
            threading.Thread(target=self._work, name=f"callboard-handler-{self._threads}", daemon=True).start()
        self._keeper.goes_on(run)
        self._inbox.put(run)

    def end(self, run: Run) -> None:
        """Nothing more than `run.cancelled`, which the handler may look at."""

    async def close(self) -> None:
        for _ in range(self._threads):
            self._inbox.put(None)

    def _work(self) -> None:
        while (run := self._inbox.get()) is not None:
            begun = not run.cancelled
            result = calls.run(run.handler, run.job, run, self._max_result) if begun else None
            self._ended.append((run, result, begun))
            del run
            if not self._told:
                self._told = True
                try:
                    self._loop.call_soon_threadsafe(self._collect)
                except RuntimeError:
                    return  # The loop is closed: the process ends, and nobody asks any more.

    def _collect(self) -> None:
        """Report what ended; on the loop's thread. One turn takes all that ended meanwhile."""
        self._told = False
        while self._ended:
            run, result, begun = self._ended.popleft()
            self._busy -= 1
            if not begun:
                self._keeper.stopped(run)
            elif isinstance(result, endings.Failure):
                self._keeper.failed(run, result)
            else:
                self._keeper.completed(run, result)
