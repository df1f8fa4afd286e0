"""What the holder of the site's office does: reads what there is whenever that changes, and keeps a courier for each node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import structlog

from callboard import errors
from callboard.cluster import deltas, gathering, view
from callboard.coordination import engine, heeding
from callboard.kit import backoff
from callboard.roles import offices
from callboard.roles.site_controller import courier
from callboard.rpc import peers

GATHER_SECONDS: Final = 0.01
"""After something was read, what changes within this time is read together."""
RETRY_FIRST_SECONDS: Final = 0.05
RETRY_MOST_SECONDS: Final = 1.0
log = structlog.get_logger("callboard.controller")


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What every duty of a node is done with. All of it is started."""

    session: engine.Session
    wire: peers.Peers
    site: str
    chance: Callable[[], float]


class Duty(heeding.Heeding):
    """One office, from when it was taken until it is left: an `offices.Work`. On the session's loop."""

    def __init__(self, needs: Needs, seat: offices.Seat[Duty], epoch: int) -> None:
        super().__init__(needs.session, gathering.FOLDERS)
        self.closing = False
        self._wire = needs.wire
        self._chance = needs.chance
        self._seat = seat
        self._gathering = gathering.Gathering(needs.site)
        self._deltas = deltas.Deltas(epoch)
        self._couriers: dict[str, courier.Courier] = {}
        self._loaded = False
        self._stale = False
        self.woken.set()

    def facts(self) -> Mapping[str, Any]:
        """Return how far the nodes know what there is."""
        late = sum(not each.done for each in self._couriers.values())
        return {"version": str(self._deltas.version), "nodes": len(self._couriers), "late": late, "stale": self._stale}

    async def close(self, grace_seconds: float) -> None:
        """Tell nothing more, and say so: until the next holder does, nodes go on with what they know."""
        self.closing = True
        await self.stop()

    async def _start(self) -> None:
        self._ends.append(self._wire.on_gone(self._gone))
        await super()._start()

    async def _stop(self) -> None:
        await super()._stop()
        await asyncio.gather(*(each.stop() for each in self._couriers.values()))
        for incarnation in self._couriers:
            self._wire.notify(incarnation, view.TOPIC, b"")

    def _turned(self, state: engine.State) -> None:
        self._stale = state is not engine.State.CONNECTED
        self.woken.set()

    def _gone(self, incarnation: str) -> None:
        if incarnation in self._couriers:
            self._couriers[incarnation].lost()

    async def _keep(self) -> None:
        wait = backoff.Backoff(RETRY_FIRST_SECONDS, RETRY_MOST_SECONDS, self._chance)
        while True:
            await self.woken.wait()
            self.woken.clear()
            try:
                await self._read()
                wait.succeeded()
                pause = GATHER_SECONDS
            except errors.CoordinationError:
                self.woken.set()
                pause = wait.failed()
            if self._loaded and self._deltas.take(self._gathering.facts(), stale=self._stale):
                await self._tell()
            await asyncio.sleep(pause)

    async def _read(self) -> None:
        """Read what changed, each folder as a whole."""
        for folder in gathering.FOLDERS:
            if folder in self._old:
                self._gathering.take(folder, await heeding.reread(self._session, folder, self._old))
        self._loaded = True

    async def _tell(self) -> None:
        """Have a courier for each node that there is, and wake them all: they carry at the same time, each at its own pace."""
        nodes = self._deltas.facts.nodes
        gone = [self._couriers.pop(incarnation) for incarnation in self._couriers.keys() - nodes.keys()]
        for incarnation, node in nodes.items():
            if incarnation not in self._couriers:
                made = courier.Courier(self._wire, node.address, self._deltas, self._superseded, self._chance)
                self._couriers[incarnation] = made
        for each in self._couriers.values():
            each.wake()
        await asyncio.gather(*(each.stop() for each in gone))

    def _superseded(self) -> None:
        """A node has heard of a higher epoch: whoever has it does the work."""
        if not self.closing and self._seat.standing is not None:
            self._seat.standing.resign("a node was told of the site by a later holder")
