"""Active-passive: the offices that a role of a node stands for, one a group, and the work that is done while one is held.

`coordination.presence` says when an office is held; this begins the holder's work, tells who may answer under which epoch, and
ends the work before the office is given up. Named services and domain controllers are built on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Generic, Protocol, TypeVar

import msgspec
import structlog

from callboard import errors
from callboard.coordination import presence
from callboard.kit import clock
from callboard.names import groups, model
from callboard.rpc import network

HAND_OVER_SECONDS: Final = 2.0
"""What running work gets when the office goes to a better candidate: its callers wait meanwhile."""
MAX_DOMAINS: Final = 100_000
"""Domains whose group is remembered."""

log = structlog.get_logger()


class Candidacy(msgspec.Struct, frozen=True, kw_only=True):
    """How a node stands for offices."""

    presence: presence.Presence
    groups: groups.Groups
    """Which group a domain belongs to."""
    stands_for: Sequence[str]
    """The groups whose offices this node wants."""
    order: int
    """The lowest of those that live is active."""
    preempt: bool
    """Whether a better candidate that comes later takes over."""
    address: Callable[[], network.Address]
    """Where this node is reached; asked when the role starts."""
    site: str = ""

    def office(self, label: str, group: str) -> bytes:
        """Return what the entry of a held office says."""
        here = self.address()
        held = model.Office(
            label=label,
            group=group,
            incarnation=here.incarnation,
            host=here.host,
            port=here.port,
            server=here.server,
            site=self.site,
        )
        return msgspec.json.encode(held)


class Work(Protocol):
    """What the holder of an office does. Made when the office is taken, and never begun again after it was closed."""

    @property
    def closing(self) -> bool:
        """Whether it takes nothing new any more."""

    async def start(self) -> None:
        """Begin. What it raises gives another node its chance; it is cancelled when the office is lost meanwhile."""

    async def close(self, grace_seconds: float) -> None:
        """Take nothing new, end what runs within the grace time, cut off the rest. It may end when the office is another's."""


W = TypeVar("W", bound=Work)


class Seat(Generic[W]):
    """The office of one group: this node's standing for it, and its work while it is held."""

    def __init__(self, group: str) -> None:
        self.group = group
        self.epoch = 0
        """The epoch under which `work` is done; 0 while it is not."""
        self.work: W | None = None
        self.standing: presence.Standing | None = None

    def serves(self, now_boot_ns: int) -> bool:
        """Tell whether new requests are taken, and whether the work may go on."""
        held = self.epoch and self.standing is not None and self.standing.accepts(now_boot_ns)
        return bool(held) and self.work is not None and not self.work.closing


class Offices(Generic[W]):
    """The offices of one label that a node stands for. `make` makes the work of a seat, when its office is taken."""

    def __init__(self, label: str, candidacy: Candidacy, clock: clock.Clock, make: Callable[[Seat[W], int], W]) -> None:
        """`make` is given the seat and the epoch."""
        self._label = label
        self._candidacy = candidacy
        self._clock = clock
        self._make = make
        self._seats: dict[str, Seat[W]] = {group: Seat(group) for group in candidacy.stands_for}
        self._by_domain: dict[str, Seat[W]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        """Work that comes to its end, some of it longer than its office could wait."""

    @property
    def active(self) -> bool:
        now = self._clock.boot()
        return any(seat.serves(now) for seat in self._seats.values())

    @property
    def works(self) -> Sequence[W]:
        """The work that is done now, or is coming to its end."""
        return [seat.work for seat in self._seats.values() if seat.work is not None]

    def told(self) -> Mapping[str, int]:
        """Return the epoch of each group that is served here."""
        return {seat.group: seat.epoch for seat in self._seats.values() if seat.epoch}

    def admit(self, domain: str, epoch: int) -> int:
        """As `rpc.serving.Served.admit`. Raises NotActive, WrongEpoch, LeaseUnconfirmed, DomainNotServed."""
        seat = self._by_domain.get(domain) or self._find(domain)
        own, standing = seat.epoch, seat.standing
        if not own or standing is None:
            raise errors.NotActive(f"{self._label} of {domain} stands by at this node: look it up again", ran="no")
        if epoch and epoch != own:
            raise errors.WrongEpoch(
                f"{self._label} of {domain} serves under epoch {own}, not {epoch}: look it up again", ran="no", epoch=own
            )
        if not standing.accepts(self._clock.boot()):
            raise errors.LeaseUnconfirmed(
                f"{self._label} of {domain} cannot tell whether it is still the active one: try again", ran="no"
            )
        return own

    def work(self, domain: str) -> W:
        """Return the work for a domain, right after a request for it was admitted."""
        found = self._by_domain[domain].work
        assert found is not None
        return found

    async def start(self) -> None:
        for seat in self._seats.values():
            self._stand(seat)

    async def end(self, grace_seconds: float) -> None:
        await asyncio.gather(*(self._end(seat, grace_seconds) for seat in self._seats.values()))
        if self._closing:
            _, late = await asyncio.wait(tuple(self._closing), timeout=grace_seconds)
            for each in late:
                each.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _end(self, seat: Seat[W], grace_seconds: float) -> None:
        """What runs comes to its end while the office is still held, so that its answers count."""
        if seat.work is not None and not seat.work.closing:
            await seat.work.close(grace_seconds)
        if seat.standing is not None:
            standing, seat.standing = seat.standing, None
            await standing.withdraw()
        seat.epoch = 0

    def _stand(self, seat: Seat[W]) -> None:
        async def taken(epoch: int) -> None:
            await self._take(seat, epoch)

        async def left() -> None:
            await self._leave(seat)

        given, label = self._candidacy, self._label
        seat.standing = given.presence.stand(
            label, seat.group, given.order, given.office(label, seat.group), preempt=given.preempt, taken=taken, left=left
        )

    async def _take(self, seat: Seat[W], epoch: int) -> None:
        """Serve as soon as the work has started. What that raises gives another node its chance: see `stand`."""
        seat.work = self._make(seat, epoch)
        await seat.work.start()
        seat.epoch = epoch
        log.info("active", service=self._label, group=seat.group, epoch=epoch)

    async def _leave(self, seat: Seat[W]) -> None:
        """Stop serving: at once when the office is lost, with some grace while it is still held."""
        held = seat.standing is not None and seat.standing.accepts(self._clock.boot())
        try:
            if seat.work is not None and not seat.work.closing:
                await self._close(seat.work, HAND_OVER_SECONDS if held else 0)
        finally:  # Also when that is cut off: the office may come back, and under its old epoch nothing is accepted again.
            if seat.epoch:
                log.info("no longer active", service=self._label, group=seat.group, epoch=seat.epoch)
            seat.work, seat.epoch = None, 0

    async def _close(self, work: W, grace_seconds: float) -> None:
        """End work; that goes on where nobody can wait any longer, or what it began would have no end."""
        closing = asyncio.create_task(work.close(grace_seconds), name=f"leave {self._label}")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        await asyncio.shield(closing)

    def _find(self, domain: str) -> Seat[W]:
        seat = self._seats.get(group := self._candidacy.groups.of(domain))
        if seat is None:
            raise errors.NotActive(
                f"{self._label} of {domain} belongs to group {group}, which is not this node's: look it up again",
                ran="no",
            )
        if len(self._by_domain) >= MAX_DOMAINS:
            self._by_domain.clear()
        self._by_domain[domain] = seat
        return seat
