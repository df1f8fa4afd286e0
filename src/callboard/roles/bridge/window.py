"""Which acknowledgements may be sent: pure. The acknowledgement of a message is what asks the broker for the next one.

A broker sends as many messages as a subscription's prefetch has over those not acknowledged: its **credit**. A message is
stored as soon as it is here, and its acknowledgement waits until a slot is free that the credit does not stand for already. So
what a broker may send never outgrows the free slots, and its other messages stay where other nodes can have them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

from callboard.jobs import lanes, model

T = TypeVar("T")

WARM_SECONDS: Final = 0.05
"""How long after an acknowledgement the broker's next message is expected, and a slot kept for it."""


class Window(Generic[T]):
    """One subscription: what was delivered, what is stored, what was asked for."""

    def __init__(self, prefetch: int) -> None:
        self.prefetch = prefetch
        self.unacked = 0
        """Deliveries here that are not acknowledged."""
        self.stored: deque[T] = deque()
        """Those whose jobs are in the store."""
        self.asked = 0
        """Messages asked for that should be here any moment."""
        self.asked_at = 0.0
        self.open = True
        """Whether the subscription goes on; after it, what it delivered is for others."""

    @property
    def credit(self) -> int:
        """How many messages the broker may send."""
        return self.prefetch - self.unacked

    @property
    def starved(self) -> bool:
        """Whether the broker may send nothing, and could be asked to."""
        return self.credit < 1 and bool(self.stored)

    def arrived(self, number: int) -> None:
        self.unacked += number
        self.asked = max(self.asked - number, 0)

    def gone(self) -> None:
        """A delivery ended otherwise: as a dead letter."""
        self.unacked -= 1

    def take(self, number: int, now: float) -> list[T]:
        """Return this many of the stored deliveries, the oldest first, as acknowledged."""
        taken = [self.stored.popleft() for _ in range(min(number, len(self.stored)))]
        self.unacked -= len(taken)
        self.asked += len(taken)
        self.asked_at = now
        return taken


class Windows(Generic[T]):
    """All subscriptions of a node, which share its slots."""

    def __init__(self, slots: int) -> None:
        self.all: list[Window[T]] = []
        self._slots = slots
        self._stranded = 0
        """Long jobs that found only slots for short ones, and went into the store unclaimed."""

    def opened(self, prefetch: int) -> Window[T]:
        """Begin a subscription."""
        made: Window[T] = Window(prefetch)
        self.all.append(made)
        return made

    def closed(self, window: Window[T]) -> list[T]:
        """End one; return what is stored and was not acknowledged."""
        if window.open:
            window.open = False
            self.all.remove(window)
        left = list(window.stored)
        window.stored.clear()
        return left

    @property
    def asked(self) -> int:
        """Messages asked for that should be here any moment."""
        return sum(window.asked for window in self.all)

    @property
    def starved(self) -> bool:
        return any(window.starved for window in self.all)

    def strand(self, lane: model.Lane, limits: lanes.Limits) -> None:
        """A job found no slot."""
        if lane is model.Lane.LONG and limits.short:
            self._stranded += 1

    def left(self, lane: model.Lane) -> None:
        """A job has ended."""
        if lane is model.Lane.LONG and self._stranded:
            self._stranded -= 1

    def cool(self, now: float) -> None:
        """Expect nothing any more where the broker had time to send: it has no more messages."""
        for window in self.all:
            if window.asked and now - window.asked_at >= WARM_SECONDS:
                window.asked = 0

    def due(self, limits: lanes.Limits, now: float) -> list[tuple[Window[T], Sequence[T]]]:
        """Return what may be acknowledged while slots are free as `limits` say. Windows take turns in being first.

        Behind long jobs that only find short slots there may be short ones: as many long ones as the node has slots go into the
        store, whoever runs them, before this looks at the slots for long jobs alone.
        """
        free = limits.short if self._stranded < self._slots else limits.long
        room = free - self.asked
        found: list[tuple[Window[T], Sequence[T]]] = []
        if room < 1:
            return found
        if len(self.all) > 1:
            self.all.append(self.all.pop(0))
        for window in self.all:
            number = min(len(window.stored), free - window.credit, room)
            if number > 0:
                found.append((window, window.take(number, now)))
                room -= number
        return found
