"""What a cluster's file says: its sites, its servers, and the settings of each. Frozen, pure.

Made by `topology.parse`; nothing here can be wrong any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from callboard import errors, settings

AUTO: Final = "auto"
"""In the place of a server's name: what every server gets that the file does not name."""


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """One server, or what those get that have no name in the file."""

    name: str
    site: str
    address: str | None
    """Where its nodes listen for those of other servers. None: what it finds itself."""
    given: Mapping[str, Any]
    """Its settings by dotted name: those of the file for all, under its site's, under its own."""


class Topology(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster's file."""

    version: int
    """Who edits the file counts it up: the higher one is the newer one."""
    cluster: str
    groups: tuple[str, ...]
    """GROUP=DOMAIN for each domain that a group names, as in `service.groups`."""
    servers: Mapping[str, Server]
    auto: Server | None

    @property
    def together(self) -> bool:
        """Whether there is more than one server, or may be."""
        return len(self.servers) > 1 or self.auto is not None

    def server(self, name: str) -> Server:
        """Return the server of a name. Raises NotFound when the file neither names it nor says what others get."""
        found = self.servers.get(name) or (msgspec.structs.replace(self.auto, name=name) if self.auto else None)
        if found is None:
            raise errors.NotFound(
                f"the file names no server {name!r:.80} and has no [servers.{AUTO}]: say --server with one of "
                + ", ".join(self.servers)
            )
        return found


def settings_for(
    topology: Topology,
    name: str,
    *,
    address: str | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> settings.Settings:
    """Return what one server runs: the file's settings for it, under an environment, under flags by dotted name.

    `address` is where its nodes listen if the file does not say. With one server alone nodes stay on loopback, and need no
    certificates. Raises NotFound, InvalidSetting.
    """
    server = topology.server(name)
    under = {**server.given, "cluster": topology.cluster, "site": server.site, "service.groups": topology.groups}
    if topology.together:
        under["wire.server"] = name
        listens = server.address or address
        if listens is not None:
            under["wire.host"] = listens
    return settings.load(None, environment, flags, under=under)
