"""What one connection between two nodes may take. Its own module, because all parts of a connection look here."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """What one connection may take."""

    in_flight: int = 4096
    """Requests under way in one direction; more are `overloaded`."""
    message_bytes: int = 1 << 20
    """Bytes of the arguments or of the result of one request."""
    queued_bytes: int = 16 << 20
    """Bytes that wait for a link that takes no more; more requests are `overloaded`."""
    keepalive_seconds: float = 1.0
    """After how much silence of its own a side says that it is there."""
    silent_seconds: float = 3.0
    """After how much silence of the other side a connection is given up."""
    dial_seconds: float = 1.0
    """How long dialling and greeting may take."""
    strangers: int = 128
    """Connections that have not said who they are; more are closed at once."""
