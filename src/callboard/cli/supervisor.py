"""What a supervisor like systemd is told: one datagram to the socket that it names in the environment."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from typing import Final

SOCKET: Final = "NOTIFY_SOCKET"


class Supervisor:
    """Who started this process. Without one nothing is told."""

    def __init__(self, address: str) -> None:
        self._address = address

    @property
    def environment(self) -> Mapping[str, str]:
        """What was taken out of the environment, for the one who is to speak in this process next."""
        return {SOCKET: self._address} if self._address else {}

    def ready(self) -> None:
        """Tell that the start, or the start anew, is complete."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """Tell that this process starts itself anew."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def _tell(self, what: str) -> None:
        if self._address:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.connect(f"\0{self._address[1:]}" if self._address.startswith("@") else self._address)
                channel.send(what.encode())


def claim() -> Supervisor:
    """Return the supervisor of this process.

    From now on the socket's name is not in the environment: nodes, and what handlers start, are not the ones who may speak.
    """
    return Supervisor(os.environ.pop(SOCKET, ""))
