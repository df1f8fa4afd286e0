"""Ports of this machine: which ones it gives to clients, and free ones for servers that are started for a while."""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
from pathlib import Path
from typing import Final

from callboard import errors

_GIVEN: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FREE: Final = range(10_000, 32_000)
"""Below what Linux gives to clients unless it is told otherwise (32768 to 60999): what is free there stays so, also while a
server that had it is started again."""
_TRIES: Final = 1000
_NEXT: Final = itertools.count(random.randrange(len(_FREE)))
"""A process begins somewhere, and is given no port twice before all were: one may not be listened on yet, or again."""


def clients() -> range:
    """Return the ports that the kernel gives to outgoing connections: a server there may find its port taken. Empty where it
    does not say."""
    with contextlib.suppress(OSError, ValueError):
        first, last = map(int, _GIVEN.read_text().split())
        return range(first, last + 1)
    return range(0)


def free(count: int = 1) -> range:
    """Return so many ports in a row on which nobody listens now. Raises PortInUse when there are none."""
    for _ in range(_TRIES):
        place, *_ = [next(_NEXT) for _ in range(count)]
        first = _FREE[place % len(_FREE)]
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            row = range(first, first + count)
            for port in row:
                held.enter_context(socket.socket()).bind(("", port))
            return row
    raise errors.PortInUse(
        f"no {count} free ports in a row were found between {_FREE.start} and {_FREE.stop}: stop what has them"
    )
