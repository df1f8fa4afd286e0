"""Group commit: one thread that applies whatever units have arrived since the last commit began. Only `queue` uses it.

Idle, a commit begins at once and there is no timer; busy, the next commit takes all that waited for the last one, up to
bounds. This is where durable and fast stop being opposites.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from callboard import errors
from callboard.jobs import engine as seam

MAX_UNITS: Final = 2_000
MAX_BYTES: Final = 4 << 20
TARGET_SECONDS: Final = 0.05
"""What one commit should take at most: fewer units are taken where the store is slow."""
RETRY_SECONDS: Final = 2.0
"""How long a store that is busy or away is asked again before the caller hears of it."""
RETRY_PAUSE_SECONDS: Final = 0.05
SWITCH_SECONDS: Final = 0.0002
"""CPython's switch interval while there is a writer: at its default of 5 ms a thread that computes keeps the interpreter's
lock that long from a writer at each step of a commit, and with it, all other processes from the store."""

_log = logging.getLogger("callboard.store")


class _Order:
    """Units of one caller on their way to a commit."""

    __slots__ = ("error", "future", "loop", "results", "size", "units")

    def __init__(self, units: Sequence[seam.Unit], loop: asyncio.AbstractEventLoop) -> None:
        self.units = units
        self.size = _size(units)
        self.loop = loop
        self.future: asyncio.Future[list[seam.UnitResult]] = loop.create_future()
        self.results: list[seam.UnitResult] | None = None
        self.error: BaseException | None = None

    def resolve(self) -> None:
        """Tell the caller; on its loop's thread."""
        if self.future.done():
            return
        if self.results is not None:
            self.future.set_result(self.results)
        else:
            self.future.set_exception(self.error or errors.StoreUnavailable("the store's writer ended"))


class Writer:
    """Applies units through one thread. `write` is called on one event loop's thread."""

    def __init__(self, apply: Callable[[Sequence[seam.Unit]], list[seam.UnitResult]]) -> None:
        self._apply = apply
        self._inbox: queue.SimpleQueue[list[_Order] | None] = queue.SimpleQueue()
        self._gathered: list[_Order] = []
        self._thread = threading.Thread(target=self._run, name="callboard-writer", daemon=True)
        self._stopping = False
        self._max_units = MAX_UNITS
        self._waiting = 0
        self._commits = self._units = self._failures = 0
        self._seconds = 0.0

    def start(self) -> None:
        """Begin the thread; the interpreter switches threads more often from then on."""
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_SECONDS))
        self._thread.start()

    async def stop(self) -> None:
        """Commit what was given, then end the thread. Allowed twice, and before `start`."""
        if not self._stopping:
            self._stopping = True
            self._flush()
            self._inbox.put(None)
        if self._thread.ident is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    async def write(self, units: Sequence[seam.Unit]) -> list[seam.UnitResult]:
        """Return a result for each unit once they are durable. Raises StoreError when they are not, as far as is known."""
        if self._stopping:
            raise errors.StoreUnavailable("this process is stopping: ask another one")
        loop = asyncio.get_running_loop()
        orders = [_Order(units[start : start + MAX_UNITS], loop) for start in range(0, len(units), MAX_UNITS)]
        if not self._gathered:
            loop.call_soon(self._flush)
        self._gathered += orders
        self._waiting += len(units)
        try:
            if len(orders) == 1:
                return await orders[0].future
            done = await asyncio.gather(*(order.future for order in orders))
            return [result for results in done for result in results]
        finally:
            self._waiting -= len(units)

    def stats(self) -> Mapping[str, float]:
        """Return counters since the start, and units waiting now."""
        return {
            "commits": self._commits,
            "units": self._units,
            "failures": self._failures,
            "seconds": self._seconds,
            "waiting": self._waiting,
        }

    def _flush(self) -> None:
        """Hand over what arrived in this turn of the loop, so that it wakes the thread once."""
        if self._gathered:
            self._inbox.put(self._gathered)
            self._gathered = []

    # The thread

    def _run(self) -> None:
        rest: list[_Order] = []
        open_ = True
        while open_ or rest:
            if not rest:
                first = self._inbox.get()
                if first is None:
                    return
                rest = first
            while not self._inbox.empty():
                more = self._inbox.get()
                if more is None:
                    open_ = False
                    break
                rest += more
            batch, rest = self._cut(rest)
            self._commit(batch)

    def _cut(self, orders: list[_Order]) -> tuple[list[_Order], list[_Order]]:
        units = size = 0
        for index, order in enumerate(orders):
            units += len(order.units)
            size += order.size
            if index and (units > self._max_units or size > MAX_BYTES):
                return orders[:index], orders[index:]
        return orders, []

    def _commit(self, orders: list[_Order]) -> None:
        began = time.perf_counter()
        self._settle(orders)
        took = time.perf_counter() - began
        units = sum(len(order.units) for order in orders)
        self._commits += 1
        self._units += units
        self._seconds += took
        if took > TARGET_SECONDS:
            self._max_units = max(100, units // 2)
        elif units >= self._max_units // 2:
            self._max_units = min(MAX_UNITS, self._max_units * 2)
        self._tell(orders)

    def _settle(self, orders: list[_Order], waits: bool = True) -> None:
        """Apply a batch and note each order's results; one that an engine chokes on is halved until the bad order is alone.

        So is one that waits for what somebody's own transaction holds, so that nobody else waits for that; `waits` is false
        for those among which there is one.
        """
        units = [unit for order in orders for unit in order.units]
        several = len(orders) > 1
        try:
            results = self._patiently(units, waits and not several)
        except errors.StoreError as error:
            if several and error.data.get("waited"):
                return self._halve(orders, waits=False)
            self._failures += 1
            for order in orders:
                order.error = error
            return
        except Exception as error:
            if several:
                return self._halve(orders, waits)
            self._failures += 1
            if isinstance(error, errors.TooLarge):  # For this store, whatever the limits of settings say.
                orders[0].error = error
                return
            _log.exception("the store's engine failed on a unit")
            orders[0].error = errors.StoreUnavailable(f"the store's engine failed: {type(error).__name__}: {error}")
            return
        start = 0
        for order in orders:
            order.results = results[start : start + len(order.units)]
            start += len(order.units)

    def _halve(self, orders: list[_Order], waits: bool) -> None:
        middle = len(orders) // 2
        for part in (orders[:middle], orders[middle:]):
            self._settle(part, waits)
            self._tell(part)

    def _patiently(self, units: Sequence[seam.Unit], waits: bool) -> list[seam.UnitResult]:
        deadline = time.monotonic() + RETRY_SECONDS
        while True:
            try:
                return self._apply(units)
            except errors.StoreUnavailable as error:
                given_up = error.data.get("unknown") or (error.data.get("waited") and not waits)
                if given_up or self._stopping or time.monotonic() > deadline:
                    raise
            time.sleep(RETRY_PAUSE_SECONDS)

    @staticmethod
    def _tell(orders: list[_Order]) -> None:
        loop = orders[0].loop
        try:
            loop.call_soon_threadsafe(_resolve, orders)
        except RuntimeError:
            _log.warning("the event loop ended before %d writes were answered", len(orders))


def _resolve(orders: list[_Order]) -> None:
    for order in orders:
        order.resolve()


def _size(units: Sequence[seam.Unit]) -> int:
    size = 0
    for unit in units:
        for op in unit:
            kind = type(op)
            if kind is seam.Put:
                size += len(op.job.args)  # type: ignore[attr-defined]
            elif kind is seam.Settle and (result := op.outcome.result) is not None:  # type: ignore[attr-defined]
                size += len(result)
    return size
