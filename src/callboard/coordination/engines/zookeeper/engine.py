"""The engine: where the ensemble is, and sessions there."""

from __future__ import annotations

import re
from typing import Final

from callboard import errors
from callboard.coordination import engine as seam
from callboard.coordination.engines.zookeeper import layout, session

DEFAULT_PORT: Final = 2181
DEFAULT_ROOT: Final = "/callboard"
_HOST: Final = re.compile(r"([A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(?::([0-9]{1,5}))?")
_ROOT: Final = re.compile(r"(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)+")


class ZooKeeperEngine:
    """Coordination at one ensemble, under one root. Each session has a connection of its own."""

    name = "zookeeper"

    def __init__(self, hosts: str, root: str, session_seconds: float) -> None:
        self._hosts = hosts
        self._where = layout.Layout(root)
        self._session_seconds = session_seconds

    async def session(self, name: str) -> session.ZooKeeperSession:
        made = session.ZooKeeperSession(seam.check_session(name), self._where, self._hosts, self._session_seconds)
        await made.begin()
        return made

    async def close(self) -> None:
        """Sessions hold all there is."""


def open(url: str, *, session_seconds: float = 3.0) -> ZooKeeperEngine:
    """Open `zookeeper://HOST[:PORT],…[/ROOT]`; port 2181 and root `/callboard` if not said otherwise. Connects to nothing.

    Raises InvalidSetting.
    """
    hosts, slash, root = url.removeprefix("zookeeper://").partition("/")
    found = [_HOST.fullmatch(host) for host in hosts.split(",")]
    if not url.startswith("zookeeper://") or not all(found) or (root and not _ROOT.fullmatch(slash + root)):
        raise errors.InvalidSetting(f"coordination {url!r} is not like zookeeper://host1:2181,host2:2181,host3:2181/callboard")
    places = [f"{match[1]}:{match[2] or DEFAULT_PORT}" for match in found if match]
    return ZooKeeperEngine(",".join(places), slash + root if root else DEFAULT_ROOT, session_seconds)
