"""Hears from the kernel that something changed in directories (inotify), on the loop. What changed, it does not say."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

CLOSE_WRITE: Final = 0x00000008
MOVED_TO: Final = 0x00000080
CREATE: Final = 0x00000100
DELETE: Final = 0x00000200
_CLOEXEC: Final = os.O_CLOEXEC
_NONBLOCK: Final = os.O_NONBLOCK
_ENOUGH: Final = 1 << 16
_libc = ctypes.CDLL(None, use_errno=True)


class Lookout:
    """Calls `stirred()` on the running loop when anything happens that was asked for. Raises OSError when the kernel cannot:
    it has a limit of instances a user."""

    def __init__(self, directories: Mapping[Path, int], stirred: Callable[[], None]) -> None:
        self._stirred = stirred
        self._descriptor = _checked(_libc.inotify_init1(_CLOEXEC | _NONBLOCK))
        try:
            for directory, events in directories.items():
                _checked(_libc.inotify_add_watch(self._descriptor, os.fsencode(directory), ctypes.c_uint32(events)))
        except OSError:
            os.close(self._descriptor)
            raise
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._read)

    def close(self) -> None:
        """Allowed twice."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _read(self) -> None:
        try:
            os.read(self._descriptor, _ENOUGH)
        except BlockingIOError:
            return
        self._stirred()


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
