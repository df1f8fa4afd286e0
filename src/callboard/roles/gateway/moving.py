"""An office goes to another instance because somebody wants it to: its holder, and whoever is ahead of the one that is meant,
step back behind it, and the hand-over is that of elections. Callers wait meanwhile, as they do whenever an office changes hands.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from callboard import errors
from callboard.http import shapes
from callboard.names import model, protocol
from callboard.roles.gateway import calls, keys, naming, roster
from callboard.roles.gateway import desk as desks
from callboard.rpc import network

LOOK_SECONDS: Final = 0.02
"""Between two looks whether the new holder serves."""
PING_SECONDS: Final = 1.0
"""How long one that stands by may take to answer before another one is chosen."""


class Moving:
    """One move of the office that answers for a name, from its holder to one who stands by."""

    def __init__(self, names: desks.Names, name: str, domain: str, seconds: float) -> None:
        self._names = names
        self._name = name
        self._domain = domain
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()

    async def run(self, to: str | None) -> shapes.HandedOver:
        """Move it; `to` is the one that is meant, or the end of its id. See `move`."""
        seat = await self._seat()
        (holder,) = seat.instances
        if to is not None and roster.is_meant(holder.incarnation, to):
            return self._told(seat, seat.epoch, holder)
        target = await self._target(seat, to)
        await self._step_back(seat, target)
        epoch, now = await self._taken(seat)
        if now.incarnation == holder.incarnation or (to is not None and now != target.address):
            who = "nobody took it, and it is with the same node again" if now == holder else f"node {now.incarnation} took it"
            raise errors.StateRefused(
                f"{self._name} did not go to node {target.address.incarnation}: {who}, under epoch {epoch}", epoch=epoch
            )
        return self._told(seat, epoch, now)

    async def _seat(self) -> protocol.Listed:
        """Return the office as it is. Raises StateRefused where there is none, NotActive while nobody holds it."""
        parsed = model.parse(self._name, self._domain)
        try:
            answer = await self._names.lookup(self._name, timeout=self._left(), domain=self._domain)
        except errors.UnknownName as error:
            raise await naming.nearer(self._names, error, parsed) from None
        if answer.active == "all":
            raise errors.StateRefused(f"{self._name} has no office that could move: all its instances serve")
        listing = await self._names.listing(parsed.label, timeout=self._left())
        if listing.stale:
            raise errors.CoordinationUnavailable("coordination is out of reach: until it is back, no office changes hands")
        for seat in listing.names:
            if (seat.label, seat.group) == (answer.label, answer.group) and seat.instances:
                return seat
        raise errors.NotActive(f"nobody holds the office of {self._name} just now: whoever stands for it takes it", ran="no")

    async def _target(self, seat: protocol.Listed, to: str | None) -> protocol.Standby:
        """Return whom the office goes to: who is named, else the next one that answers."""
        if not seat.standbys:
            raise errors.StateRefused(f"nobody stands by for {self._name}: start another instance of it first")
        if to is not None:
            known = {each.address.incarnation: each for each in seat.standbys}
            named = known[roster.meant(to, known, f"stands by for {self._name}")]
            if not await self._answers(named.address):
                raise errors.NotActive(f"node {named.address.incarnation} does not answer: choose another one", ran="no")
            return named
        for each in seat.standbys:
            if await self._answers(each.address):
                return each
        raise errors.NotActive(f"none of the {len(seat.standbys)} that stand by for {self._name} answers", ran="no")

    async def _answers(self, address: network.Address) -> bool:
        with contextlib.suppress(errors.CallboardError):
            await naming.itself(self._names, address, "ping", {}, min(PING_SECONDS, self._left()))
            return True
        return False

    async def _step_back(self, seat: protocol.Listed, target: protocol.Standby) -> None:
        """Those ahead of the one that is meant first, the holder last: it goes behind them all."""
        behind = max(each.order for each in seat.standbys) + 1
        for place, each in enumerate(seat.standbys[: seat.standbys.index(target)]):
            with contextlib.suppress(
                errors.CallError, errors.Unreachable, errors.WireRefused
            ):  # It does not answer, or has left.
                await self._ask_back(seat, each.address, 0, behind + place)
        await self._ask_back(seat, seat.instances[0], seat.epoch, behind + len(seat.standbys))

    async def _ask_back(self, seat: protocol.Listed, node: network.Address, epoch: int, order: int) -> None:
        args = {"label": seat.label, "group": seat.group, "epoch": epoch, "order": order}
        await naming.itself(self._names, node, "step_back", args, min(PING_SECONDS, self._left()))

    async def _taken(self, seat: protocol.Listed) -> tuple[int, network.Address]:
        """Wait until somebody serves under another epoch. Raises DeadlineExceeded."""
        while self._loop.time() < self._began + self._seconds:
            with contextlib.suppress(errors.CallError):
                answer = await self._names.lookup(self._name, ping=True, timeout=self._left(), domain=self._domain)
                if answer.epoch > seat.epoch:
                    return answer.epoch, answer.instances[0]
            await asyncio.sleep(LOOK_SECONDS)
        raise errors.DeadlineExceeded(
            f"nobody serves {self._name} under a new epoch after {self._seconds:g} s, and the hand-over goes on:"
            " 'callboard names' shows who holds it",
            ran="yes",
        )

    def _left(self) -> float:
        """Return the seconds that are left, never none: who has none is told so by the call."""
        return max(self._began + self._seconds - self._loop.time(), 0.001)

    def _told(self, seat: protocol.Listed, epoch: int, holder: network.Address) -> shapes.HandedOver:
        return shapes.HandedOver(
            name=self._name,
            group=seat.group,
            before=seat.epoch,
            epoch=epoch,
            left=naming.place(seat.instances[0]),
            holder=naming.place(holder),
            seconds=self._loop.time() - self._began,
        )


async def move(desk: desks.Desk, grant: keys.Grant, domain: str, name: str, to: str | None, seconds: float) -> shapes.HandedOver:
    """Have the holder of a name's office give it to the next one who stands by, or to a node by its id or the end of that.

    Raises InvalidName, UnknownName; NotFound for a node that does not stand by; StateRefused when nobody does, where there is no
    office, or when it went elsewhere; NotActive, CoordinationUnavailable; DeadlineExceeded: the hand-over goes on.
    """
    calls.check_operator(grant)
    if model.parse(name, domain).incarnation:
        raise errors.InvalidName(f"{name!r:.80} is one exact instance: write the name alone, and say where it is to go")
    return await Moving(naming.reach(desk), name, domain, seconds).run(to)
