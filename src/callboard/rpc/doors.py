"""Doors: how the nodes of one machine find each other without asking anybody, and the secrets that let them in.

Each node has a file `nodes/HEX.door` in the data directory, mode 0600: whoever may read it may talk to the node. It is written
at the start with a new secret and removed at the end; the agent removes those of the dead. Between servers certificates do
this work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from callboard import errors
from callboard.kit import files
from callboard.rpc import network

SUFFIX: Final = ".door"
KEPT: Final = 4096
"""Secrets that are remembered: nodes come and go."""


class Door(msgspec.Struct, frozen=True):
    """Where a node of this machine listens."""

    incarnation: str
    host: str
    port: int
    secret: bytes
    """Travels as base64 in the file, and never over the wire."""
    roles: tuple[str, ...] = ()
    server: str = ""
    """Name in the certificate that the node shows; empty where the secret does this work."""

    @property
    def address(self) -> network.Address:
        return network.Address(self.incarnation, self.host, self.port, self.server)

    def __repr__(self) -> str:
        return f"Door({self.incarnation}, {self.host}:{self.port}, {self.roles})"


class Doors:
    """The doors in a directory. Files are read anew each time, but for secrets: those of one incarnation never change."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._secrets: dict[str, bytes] = {}

    def write(self, door: Door) -> None:
        """Replace a node's door, whole or not at all. Raises DataUnusable."""
        path = self._path(door.incarnation)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.write_private(path, msgspec.json.encode(door))
        except OSError as error:
            raise errors.DataUnusable(f"cannot write {path}: {error.strerror}") from None

    def remove(self, incarnation: str) -> None:
        """Remove a node's door. Allowed twice."""
        self._path(incarnation).unlink(missing_ok=True)
        self._secrets.pop(incarnation, None)

    def read(self) -> list[Door]:
        """Return all doors, by incarnation; files that make no sense are passed over."""
        found = (_read(path) for path in sorted(self._directory.glob(f"*{SUFFIX}")))
        return [door for door in found if door is not None]

    def secret_of(self, address: network.Address) -> bytes | None:
        """Return the secret of a node, None when it has no door here. Fast after the first time."""
        secret = self._secrets.get(address.incarnation)
        if secret is None:
            door = _read(self._path(address.incarnation))
            if door is None:
                return None
            if len(self._secrets) >= KEPT:
                del self._secrets[next(iter(self._secrets))]
            self._secrets[address.incarnation] = secret = door.secret
        return secret

    def _path(self, incarnation: str) -> Path:
        return self._directory / f"{incarnation}{SUFFIX}"


def _read(path: Path) -> Door | None:
    try:
        door = msgspec.json.decode(path.read_bytes(), type=Door)
    except (OSError, ValueError):
        return None
    return door if door.incarnation == path.name.removesuffix(SUFFIX) else None
