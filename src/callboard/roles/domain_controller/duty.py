"""What the holder of a group's office does: takes its term in the store, promotes and purges, looks after silent servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from callboard import errors
from callboard.coordination import election, engine
from callboard.jobs import maintenance, queue, terms
from callboard.kit import backoff, clock
from callboard.names import groups, model
from callboard.roles import offices
from callboard.roles.domain_controller import looks, rescue
from callboard.rpc import network
from callboard.settings import RetentionSettings

FIRST_DELAY_SECONDS: Final = 0.1
LONGEST_DELAY_SECONDS: Final = 1.0
log = structlog.get_logger("callboard.controller")


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What every duty of a node is done with. All of it is started."""

    queue: queue.Queue
    session: engine.Session
    clock: clock.Clock
    groups: groups.Groups
    session_of: Callable[[str], str]
    """The name of a node's session in coordination."""
    address: Callable[[], network.Address]
    site: str
    looks: looks.Looks
    retention: RetentionSettings


class Duty:
    """One office, from when it was taken until it is left: an `offices.Work`."""

    def __init__(self, needs: Needs, seat: offices.Seat[Duty], epoch: int) -> None:
        self.closing = False
        self._needs = needs
        self._seat = seat
        self._epoch = epoch
        self._maintenance: maintenance.Maintenance | None = None
        self._rescue: rescue.Rescue | None = None

    @property
    def rescued(self) -> int:
        """Jobs that were given back under this office."""
        return 0 if self._rescue is None else self._rescue.rescued

    async def start(self) -> None:
        """Take the term, however long the store is away, and begin."""
        term = await self._term()
        log.info("term taken", group=self._seat.group, term=term.number, epoch=self._epoch)
        given = self._needs
        self._maintenance = maintenance.Maintenance(
            given.queue,
            age_seconds=given.retention.age_seconds,
            keep=given.retention.keep,
            serves=self._serves,
            guards=term.guards,
            superseded=self._superseded,
        )
        self._rescue = rescue.Rescue(
            given.queue,
            given.session,
            given.clock,
            given.session_of,
            given.looks,
            rescue.Office(self._check(), term.guards, self._superseded),
        )
        await self._maintenance.start()
        await self._rescue.start()

    async def close(self, grace_seconds: float) -> None:
        """End all of it: what is half done is a commit that comes to its end, or none."""
        self.closing = True
        parts = [part for part in (self._rescue, self._maintenance) if part is not None]
        await asyncio.gather(*(part.stop() for part in parts))

    async def _term(self) -> terms.Term:
        delays = backoff.Backoff(FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS)
        here, given = self._needs.address(), self._needs
        scope, told = terms.scope(given.site, self._seat.group), False
        while True:
            holder = terms.Holder(
                incarnation=here.incarnation, epoch=self._epoch, server=here.server, site=given.site, at=given.queue.clock.now()
            )
            try:
                return await terms.take(given.queue, scope, holder)
            except errors.StoreError as error:
                if not told:
                    log.warning("the office waits for the store", group=self._seat.group, code=error.code, why=error.message)
                told = True
                await asyncio.sleep(delays.failed())

    def _check(self) -> engine.Check:
        return engine.Check(f"{election.ACTIVE}/{election.office(model.DOMAIN_CONTROLLER, self._seat.group)}", self._epoch)

    def _serves(self, domain: str) -> bool:
        try:
            return self._needs.groups.of(domain) == self._seat.group
        except errors.DomainNotServed:
            return False

    def _superseded(self) -> None:
        """A guard was refused: whoever took the office since then does the work."""
        if not self.closing and self._seat.standing is not None:
            self._seat.standing.resign("another one has taken its office: servers that share a store must share coordination")
