"""The engine: where the ensemble is, and sessions there."""

from __future__ import annotations

from callboard.coordination import engine as seam
from callboard.coordination.engines.zookeeper import session
from callboard.ensembles import address


class ZooKeeperEngine:
    """Coordination at one ensemble, under one root. Each session has a connection of its own."""

    name = "zookeeper"

    def __init__(self, of: address.Address, session_seconds: float) -> None:
        self._address = of
        self._session_seconds = session_seconds

    async def session(self, name: str) -> session.ZooKeeperSession:
        made = session.ZooKeeperSession(seam.check_session(name), self._address, self._session_seconds)
        await made.begin()
        return made

    async def close(self) -> None:
        """Sessions hold all there is."""


def open(url: str, *, session_seconds: float = 3.0) -> ZooKeeperEngine:
    """Open `zookeeper://[USER:PASSWORD@]HOST[:PORT],…[/ROOT][?…]`, see `ensembles.address`; port 2181 and root `/callboard`
    if not said otherwise. Connects to nothing. Raises InvalidSetting.
    """
    return ZooKeeperEngine(address.parsed(url), session_seconds)
