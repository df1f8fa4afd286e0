"""The seam of wake-ups: who should look at the store now.

A hint is never the truth, only a reason to read it: a lost one costs a polling interval, a wrong one costs a read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec


class Hint(msgspec.Struct, array_like=True, frozen=True):
    """What one commit changed that somebody may care about."""

    ready: tuple[tuple[str, str], ...] = ()
    """(domain, queue) pairs in which jobs became available; queue "" stands for any."""
    finished: tuple[bytes, ...] = ()
    """Ids of jobs that reached a terminal state; only filled while `Hints.awaited` is true."""
    cancelled: tuple[tuple[bytes, str, bytes], ...] = ()
    """(node, domain, id) of running jobs that somebody asked to cancel."""
    documents: tuple[tuple[str, str], ...] = ()
    """(domain, path) of documents that were written."""


Listener = Callable[[Hint], None]


class Hints(Protocol):
    """Carries hints between processes. All methods are called on the event loop's thread and return at once."""

    @property
    def awaited(self) -> bool:
        """Whether somebody, in any process, waits for jobs to finish."""

    @property
    def waiting(self) -> bool:
        """Whether this process waits, or did so a moment ago: others have heard of it."""

    def publish(self, hint: Hint) -> None:
        """Send a hint to every other process that listens. The own process's listeners get it too, before this returns."""

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Have `listener` called with each hint, on the loop's thread; returns how to stop it."""

    def await_finished(self) -> Callable[[], None]:
        """Say that this process waits for finished jobs; returns how to take it back (implementations may linger)."""


class LocalHints:
    """Hints within one process: what a single process needs, and the base of those that also reach others."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._waiting = 0

    @property
    def awaited(self) -> bool:
        return self._waiting > 0

    @property
    def waiting(self) -> bool:
        return self._waiting > 0

    def publish(self, hint: Hint) -> None:
        self.deliver(hint)

    def deliver(self, hint: Hint) -> None:
        """Give a hint to this process's listeners."""
        for listener in tuple(self._listeners):
            listener(hint)

    def listen(self, listener: Listener) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def await_finished(self) -> Callable[[], None]:
        self._waiting += 1
        waiting = True

        def stop() -> None:
            nonlocal waiting
            self._waiting -= waiting
            waiting = False

        return stop
