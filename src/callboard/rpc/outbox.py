"""What waits to be sent over one link: the frames of one turn of the loop go in one message, and none while the link is paused.

Used by `connection`, which says what becomes of a frame that cannot be sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from callboard import errors
from callboard.rpc import frames, network

BATCH_BYTES: Final = 256 << 10
"""At about this size a message is sent without waiting for the end of the loop's turn."""

FEW: Final = 4
"""Where fewer frames than these were sent in a turn, the first one of the next turn does not wait for its end."""


class Outbox:
    """Frames on their way to a link. On one event loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, link: network.Link, unsendable: Callable[[frames.Frame, str], None]
    ) -> None:
        self.waiting: list[frames.Frame] = []
        self.waiting_bytes = 0
        self.messages = 0
        """How many were sent."""
        self._loop = loop
        self._link = link
        self._unsendable = unsendable
        self._paused = False
        self._turn = False
        """Whether something was sent in this turn of the loop: what comes after it waits for the end of the turn."""
        self._few = True
        """Whether the first frame of a turn goes at once: where many go in each turn, none is worth a message of its own."""

    def send(self, frame: frames.Frame, size: int) -> None:
        """Send soon; `size` is about what the frame carries."""
        self.waiting.append(frame)
        self.waiting_bytes += size + frames.OVERHEAD
        if not self._paused:
            if not self._turn:
                self._turn = True
                self._loop.call_soon(self._turned)
                if self._few:
                    self.flush()
            elif self.waiting_bytes > BATCH_BYTES:
                self.flush()

    def take_back(self, id: int) -> bool:
        """Remove a request that is still here; tell whether it was."""
        for place, frame in enumerate(self.waiting):
            if type(frame) is frames.Request and frame.id == id:
                del self.waiting[place]
                self.waiting_bytes -= frames.weight(frame)
                return True
        return False

    def pause(self) -> None:
        """Send nothing until `resume`."""
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self.flush()

    def close(self) -> list[frames.Frame]:
        """Send nothing any more; return what was not sent."""
        self._paused = True
        unsent, self.waiting, self.waiting_bytes = self.waiting, [], 0
        return unsent

    def _turned(self) -> None:
        self._turn = False
        self._few = len(self.waiting) < FEW
        self.flush()

    def flush(self) -> None:
        """Send what waits, until the link wants no more."""
        while self.waiting and not self._paused:
            if self.waiting_bytes <= 2 * BATCH_BYTES:
                batch, self.waiting, self.waiting_bytes = self.waiting, [], 0
            else:
                batch = self._cut()
            self._send(batch)

    def _cut(self) -> list[frames.Frame]:
        size = count = 0
        while count < len(self.waiting) and size < BATCH_BYTES:
            size += frames.weight(self.waiting[count])
            count += 1
        batch, self.waiting = self.waiting[:count], self.waiting[count:]
        self.waiting_bytes = max(0, self.waiting_bytes - size) if self.waiting else 0
        return batch

    def _send(self, batch: list[frames.Frame]) -> None:
        try:
            message = frames.encode(batch)
            said = "" if len(message) <= network.MAX_MESSAGE else f"{len(message)} bytes: {network.MAX_MESSAGE} is the most"
        except errors.MalformedFrame as error:
            said = error.message
        if not said:
            self.messages += 1
            self._link.send(message)
        elif len(batch) == 1:
            self._unsendable(batch[0], said)
        else:
            half = len(batch) // 2
            self._send(batch[:half])
            self._send(batch[half:])
