"""What needs no driver: asking whether anything answers at an address, and cutting a connection."""

from __future__ import annotations

import contextlib
import os
import socket

from callboard.kit import urls


def answers(host: urls.Host, request: bytes, seconds: float) -> bool:
    """Whether anything comes back within so many seconds, on a new connection, after `request` was sent.

    Raises socket.gaierror for a name that leads nowhere.
    """
    try:
        with socket.create_connection(host, timeout=seconds) as tried:
            if request:
                tried.sendall(request)
            return bool(tried.recv(1))
    except socket.gaierror:
        raise
    except OSError:
        return False


class Cutter:
    """A second handle of a connection's socket, with which another thread may break it."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=os.dup(descriptor))
        _keep_alive(self._socket)

    def cut(self) -> None:
        """Break the connection: whoever waits for an answer on it gets an error."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Free the handle; the connection stays. Allowed twice."""
        self._socket.close()

    def __del__(self) -> None:
        if hasattr(self, "_socket"):
            self.close()


def _keep_alive(on: socket.socket) -> None:
    """Notice a peer that has forgotten the connection, as after its machine was started again."""
    if on.family not in (socket.AF_INET, socket.AF_INET6):
        return
    on.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    on.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 3)
    on.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    on.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
