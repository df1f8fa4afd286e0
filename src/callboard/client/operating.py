"""What `Client` does for those who run the system: names and their offices, servers, nodes that are to end."""

from __future__ import annotations

from typing import Final

import msgspec

from callboard.client import paths
from callboard.http import client as http
from callboard.http import shapes

PING_SECONDS: Final = 10.0
MOVE_SECONDS: Final = 10.0
UNNAMED: Final = "local"
"""What stands for the server of one machine, which has no name."""


class Operating:
    """The operators' part of `Client`. What changes anything needs a key with the scope `admin` that reaches all domains."""

    _domain: str | None
    _gateways: http.Gateways

    async def names(self, prefix: str = "") -> shapes.Names:
        """Return the names that begin with a prefix, who answers for each, who stands by; `stale` if that may be out of date."""
        answer = await self._gateways.ask("GET", "/v1/names", [("prefix", prefix)] if prefix else [])
        return msgspec.json.decode(answer, type=shapes.Names)

    async def ping(self, name: str, *, timeout: float = PING_SECONDS, domain: str | None = None) -> shapes.Answering:
        """Ask the instance that answers for a name whether it does; `cache/INCARNATION` asks an exact one. Needs `calls:invoke`.

        `timeout` in seconds, 60 at most. Raises InvalidName, UnknownName, NotActive when no instance answers, DeadlineExceeded.
        """
        path = f"/v1/names/{paths.named(name, domain or self._domain)}/ping"
        answer = await self._gateways.ask("GET", path, [("timeout", f"{timeout:g}")], waits=timeout)
        return msgspec.json.decode(answer, type=shapes.Answering)

    async def move(
        self, name: str, to: str | None = None, *, timeout: float = MOVE_SECONDS, domain: str | None = None
    ) -> shapes.HandedOver:
        """Have the holder of a name's office hand it to the next one who stands by, or to the node `to`; return when that serves.

        `timeout` in seconds, 60 at most. Calls wait meanwhile. Not sent again after a lost answer: `names` shows who holds it.
        Raises UnknownName; NotFound for a node that does not stand by; StateRefused when nobody does, or where all instances
        serve; NotActive; DeadlineExceeded.
        """
        path = f"/v1/names/{paths.named(name, domain or self._domain)}/move"
        body = msgspec.json.encode(shapes.Move(to))
        answer = await self._gateways.ask("POST", path, [("timeout", f"{timeout:g}")], body=body, repeatable=False, waits=timeout)
        return msgspec.json.decode(answer, type=shapes.HandedOver)

    async def servers(self) -> list[shapes.Server]:
        """Return the servers whose agents live, by name, with what is wished of each."""
        return msgspec.json.decode(await self._gateways.ask("GET", "/v1/servers"), type=shapes.Servers).servers

    async def roster(self) -> shapes.Nodes:
        """Return what `nodes` does, `partial` if nodes of other servers may be missing as coordination is out of reach."""
        return msgspec.json.decode(await self._gateways.ask("GET", "/v1/nodes"), type=shapes.Nodes)

    async def drain_node(self, node: str) -> shapes.Wished:
        """Wish that a node (its id, or the end of that) takes no work any more and ends; another one is started in its place.

        Raises NotFound.
        """
        return msgspec.json.decode(await self._gateways.ask("POST", f"/v1/nodes/{paths.part(node)}/drain"), type=shapes.Wished)

    async def drain_server(self, server: str, *, force: bool = False) -> shapes.Wished:
        """Wish that all nodes of a server end and that it stays empty until `undrain_server`; `servers` shows how far it is.

        Raises NotFound; StateRefused for the last server that has something, unless `force` is given, and for the last one with
        a gateway.
        """
        query = [("force", "true")] if force else []
        return msgspec.json.decode(await self._gateways.ask("POST", f"{_server(server)}/drain", query), type=shapes.Wished)

    async def undrain_server(self, server: str) -> shapes.TakenBack:
        """Wish nothing of a server any more: one that was drained serves again. Raises NotFound."""
        return msgspec.json.decode(await self._gateways.ask("DELETE", f"{_server(server)}/drain"), type=shapes.TakenBack)

    async def renew_server(self, server: str) -> shapes.Wished:
        """Wish that a server's agent starts itself anew from its file, and replaces its nodes one after another.

        When that is done, `servers` shows no wish any more. Raises NotFound, StateRefused for one that is to be drained.
        """
        return msgspec.json.decode(await self._gateways.ask("POST", f"{_server(server)}/renew"), type=shapes.Wished)


def _server(name: str) -> str:
    return f"/v1/servers/{paths.part(name or UNNAMED)}"
