"""The heartbeat of a node: 64 bytes of a mapped file that its loop writes and its agent reads.

No call, no packet, no disk write at rest: the page is shared memory, and it outlives both sides. What it means is judged in
`node.liveness`. The node's loop calls `tick`, the worker role calls `busy`, the agent calls `read`.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import NamedTuple

_SIZE = 64
_tick = struct.Struct("@Q")
_busy = struct.Struct("@QQ")
_all = struct.Struct("@QQQ")


class BeatState(NamedTuple):
    """What a beat said last. `tick` and `deadline` are nanoseconds of CLOCK_BOOTTIME."""

    tick: int
    """When the node's loop last moved; 0 before it ran."""
    running: int
    """Handlers that run."""
    deadline: int
    """The latest deadline of a running handler; 0 when one of them has none (or none runs)."""


class Beat:
    """One node's heartbeat. A writing takes well under a microsecond; words are written whole, so a reader sees no halves."""

    def __init__(self, page: mmap.mmap) -> None:
        self._page = page

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> Beat:
        """Make the file (readable by its owner alone) with everything zero, replacing what was there. Raises OSError."""
        made = Path(path).with_suffix(".beat-new")
        descriptor = os.open(made, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, bytes(_SIZE))  # Written, not stretched: a full disk is met here, not by a fault in the mapping.
            page = mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)
        os.replace(made, path)
        return cls(page)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Beat:
        """Map an existing file. Raises OSError when there is none, ValueError when it is too short to be one."""
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            return cls(mmap.mmap(descriptor, _SIZE))
        finally:
            os.close(descriptor)

    def tick(self, boot_ns: int) -> None:
        """Say that the loop moves, at least every second."""
        _tick.pack_into(self._page, 0, boot_ns)

    def busy(self, running: int, deadline_boot_ns: int) -> None:
        """Say how many handlers run, and until when the last of them may (0: one has no deadline).

        Called before handlers start and after they end, so that a loop which a handler blocks is known to be at work.
        """
        _busy.pack_into(self._page, _tick.size, running, deadline_boot_ns)

    def read(self) -> BeatState:
        """Return what was said last."""
        return BeatState(*_all.unpack_from(self._page, 0))

    def close(self) -> None:
        """Unmap. Allowed twice."""
        self._page.close()
