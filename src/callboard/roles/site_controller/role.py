"""The site controller as a role: stands for the office of its site. Active-passive."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from callboard.app import exposure
from callboard.coordination import engine
from callboard.kit import clock
from callboard.names import model
from callboard.roles import offices, role
from callboard.roles.site_controller import duty
from callboard.rpc import peers


class SiteController(role.Role):
    """Needs a session of coordination, which may be out of reach, and the node's wire; both started. Ready as soon as it stands.

    The candidacy's one group is the site. It needs no store.
    """

    name: ClassVar[str] = model.SITE_CONTROLLER

    def __init__(
        self,
        session: engine.Session,
        wire: peers.Peers,
        candidacy: offices.Candidacy,
        clock: clock.Clock,
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        super().__init__()
        self._needs = duty.Needs(session=session, wire=wire, site=candidacy.site, chance=chance)
        self._offices = offices.Offices(self.name, candidacy, clock, self._made)

    @property
    def active(self) -> bool:
        return self._offices.active

    def admit(self, domain: str, epoch: int) -> int:
        return self._offices.admit(domain, epoch)

    def facts(self) -> Mapping[str, Any]:
        return {"active": self._offices.told()}

    @exposure.method(idempotent=True)
    async def ping(self) -> Mapping[str, Any]:
        """Answer with the version that it tells, how many nodes it tells it, and how many of them it has not reached yet."""
        told = [work.facts() for work in self._offices.works]
        return {**await super().ping(), **(told[0] if told else {})}

    async def _start(self) -> None:
        await self._offices.start()

    async def _drain(self, grace_seconds: float) -> None:
        await self._offices.end(grace_seconds)

    async def _stop(self) -> None:
        await self._offices.end(0)

    def _made(self, seat: offices.Seat[duty.Duty], epoch: int) -> duty.Duty:
        return duty.Duty(self._needs, seat, epoch)
