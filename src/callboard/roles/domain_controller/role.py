"""The domain controller as a role: stands for the office of each of its groups. Active-passive."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from callboard import errors
from callboard.coordination import engine
from callboard.jobs import queue
from callboard.kit import clock
from callboard.names import model
from callboard.roles import offices, role
from callboard.roles.domain_controller import duty, looks, silence
from callboard.settings import RetentionSettings


class DomainController(role.Role):
    """Needs a queue, and a session of coordination that may be out of reach; both started. Ready as soon as it stands.

    It runs no handlers and knows no kinds.
    """

    name: ClassVar[str] = model.DOMAIN_CONTROLLER

    def __init__(
        self,
        queue: queue.Queue,
        session: engine.Session,
        candidacy: offices.Candidacy,
        clock: clock.Clock,
        *,
        session_of: Callable[[str], str],
        lease_seconds: float,
        retention: RetentionSettings,
    ) -> None:
        super().__init__()
        limits = silence.Limits(lease_seconds=lease_seconds)
        self._candidate = bool(candidacy.stands_for)
        self._looks = looks.Looks(queue, session, clock, lambda: bytes.fromhex(candidacy.address().incarnation), limits)
        self._needs = duty.Needs(
            queue=queue,
            session=session,
            clock=clock,
            groups=candidacy.groups,
            session_of=session_of,
            address=candidacy.address,
            site=candidacy.site,
            looks=self._looks,
            retention=retention,
        )
        self._offices = offices.Offices(self.name, candidacy, clock, self._made)

    @property
    def active(self) -> bool:
        return self._offices.active

    def admit(self, domain: str, epoch: int) -> int:
        """As every office, and not while the store is out of reach: registries depose a holder that does not serve for a minute,
        so that one who is cut off from the store alone makes room."""
        own = self._offices.admit(domain, epoch)
        if self._looks.stalled():
            raise errors.NotActive(f"{self.name} of {domain} cannot reach the store from this node: try again", ran="no")
        return own

    def facts(self) -> Mapping[str, Any]:
        return {"active": self._offices.told()}

    async def ping(self) -> Mapping[str, Any]:
        return {**await super().ping(), "rescued": sum(work.rescued for work in self._offices.works)}

    async def _start(self) -> None:
        """Looks begin with the candidacy: whoever takes office, after however many, knows the ages already."""
        if self._candidate:
            await self._looks.start()
        await self._offices.start()

    async def _drain(self, grace_seconds: float) -> None:
        await self._offices.end(grace_seconds)

    async def _stop(self) -> None:
        await self._offices.end(0)
        await self._looks.stop()

    def _made(self, seat: offices.Seat[duty.Duty], epoch: int) -> duty.Duty:
        return duty.Duty(self._needs, seat, epoch)
