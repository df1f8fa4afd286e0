"""The seam to what coordinates: sessions that end when their process does, and the entries that live as long as they.

All calls may block for the time of a few file operations or a round trip: on an event loop, make them in a thread. They may
come from any thread, one at a time for each session. Nodes and agents hold sessions; gateways list entries.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import msgspec


class Entry(msgspec.Struct, frozen=True):
    """A fact that somebody alive put: `path` (like `nodes/<hex>`), its content, and the name of the session that holds it."""

    path: str
    body: bytes
    session: str


class Session(Protocol):
    """The proof that a process lives, and what it says. Ends with `close` or with the process, however that ends."""

    @property
    def name(self) -> str:
        """Its name; only one live session has it."""

    def put(self, path: str, body: bytes) -> None:
        """Write an entry, replacing its former content whole: no reader sees a mixture. Raises DataUnusable."""

    def remove(self, path: str) -> None:
        """Remove an entry, if it is there. Raises DataUnusable."""

    def close(self) -> None:
        """End the session; its entries are gone. Allowed twice."""


class Engine(Protocol):
    """Sessions and entries of one site."""

    name: str

    def session(self, name: str) -> Session:
        """Begin a session. Raises AlreadyRunning while a live one has this name, DataUnusable when it cannot be kept."""

    def sessions(self) -> Collection[str]:
        """Return the names of the sessions that live."""

    def entries(self, prefix: str) -> list[Entry]:
        """Return the entries of live sessions whose path starts with `prefix`, by path."""
