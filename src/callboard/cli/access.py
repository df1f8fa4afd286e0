"""Which gateways a command talks to, and with which key: as it is told, or those of the data directory here.

The key in a data directory goes to the gateways of that data directory and to nobody else.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, Final

from cyclopts import Parameter

from callboard import client, errors
from callboard.cli import configuration
from callboard.node import layout

TIMEOUT_SECONDS: Final = 10.0
"""How long a command looks for a gateway that answers: a restart of one takes about a second."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Access:
    """The options that all commands have which talk to a gateway."""

    url: Annotated[
        str | None, Parameter(help="Gateways, with commas between. [$CALLBOARD_URL, or those of the data directory]")
    ] = None
    key: Annotated[str | None, Parameter(env_var="CALLBOARD_KEY", help="API key. [the one in the data directory]")] = None
    data: Annotated[str | None, Parameter(help="Data directory. [.callboard, or $CALLBOARD_DATA]")] = None
    domain: Annotated[str | None, Parameter(help="Domain of jobs and names. [the key's own]")] = None
    json: Annotated[bool, Parameter(help="Print JSON.")] = False

    def client(self) -> client.Client:
        """Return a client, for `async with`. Raises NotRunning when no URL is given and no gateway runs here."""
        urls, key = self._told() if self._gateways() else self._here()
        return client.Client(urls, key, domain=self.domain, timeout=TIMEOUT_SECONDS)

    def _gateways(self) -> str:
        return self.url or os.environ.get("CALLBOARD_URL", "")

    def _told(self) -> tuple[list[str], str | None]:
        urls = [each.strip() for each in self._gateways().split(",") if each.strip()]
        if self.key:
            return urls, self.key
        local = layout.read_local(self._place().local)
        return urls, local.key if local is not None and set(urls) <= set(local.urls) else None

    def _here(self) -> tuple[list[str], str | None]:
        place = self._place()
        lives = (place.directory / "sessions").is_dir() and bool(place.sessions().sessions())
        if not lives:
            raise errors.NotRunning(
                f"nothing runs for {place.directory}: run 'callboard up', name another place with --data, or give --url and --key"
            )
        local = layout.read_local(place.local)
        if local is None:
            raise errors.NotRunning(
                f"what runs for {place.directory} has no gateway, or only starts: name another server's with --url and --key"
            )
        return local.urls, self.key or local.key

    def _place(self) -> layout.Layout:
        return layout.Layout(configuration.load(None, {"data": self.data}).directory)


HERE: Final = Access()
"""The options when none is given."""
