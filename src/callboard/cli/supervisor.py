"""What a supervisor like systemd is told: one datagram to the socket that it names in the environment."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from typing import Final

SOCKET: Final = "NOTIFY_SOCKET"


def claim() -> Callable[[], None]:
    """Return what tells the supervisor that the start is complete; it does nothing where there is none.

    From now on the socket's name is not in the environment: nodes, and what handlers start, are not the ones who may speak.
    """
    address = os.environ.pop(SOCKET, "")

    def ready() -> None:
        if address:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.connect(f"\0{address[1:]}" if address.startswith("@") else address)
                channel.send(b"READY=1")

    return ready
