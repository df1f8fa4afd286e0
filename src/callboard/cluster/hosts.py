"""What this server is called, and where others reach it: asked of the system, for what a cluster's file leaves open."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Collection, Iterator
from typing import Final

from callboard import errors

_ANY_PORT: Final = 9


def own_name(known: Collection[str]) -> str:
    """Return the name under which a file may know this server: the host's, without its domain if that is what the file has."""
    name = socket.gethostname().lower()
    short = name.partition(".")[0]
    return short if name not in known and short in known else name


def own_address(url: str) -> str:
    """Return this server's address on its way to the first reachable host of a URL. Nothing is sent.

    Raises InvalidSetting where there is no way to any of them.
    """
    for host, port in _hosts(url):
        with contextlib.suppress(OSError):
            for family, kind, _, _, place in socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM):
                with contextlib.suppress(OSError), socket.socket(family, kind) as probe:
                    probe.connect(place)
                    return str(probe.getsockname()[0])
    raise errors.InvalidSetting("this server finds no way to the coordination, and so not its own address: say --address")


def _hosts(url: str) -> Iterator[tuple[str, int]]:
    for each in url.partition("://")[2].partition("/")[0].rpartition("@")[2].split(","):
        host, colon, port = each.rpartition(":")
        if not colon or each.endswith("]"):
            host, port = each, ""
        yield host.strip("[]"), int(port) if port.isdigit() else _ANY_PORT
