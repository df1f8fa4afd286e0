"""Who serves: every node's instance, or the one that holds the office of a domain's group.

With `active="all"` one instance serves. With `active="one"` a node stands for the office of each of its groups; an
instance is made when an office is taken and ends before it is given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol

import msgspec
import structlog

from callboard import errors
from callboard.app import services
from callboard.kit import clock
from callboard.names import groups, model
from callboard.roles.service import instance as instances
from callboard.rpc import network

HAND_OVER_SECONDS: Final = 2.0
"""What running calls get when the office goes to a better candidate: its callers wait meanwhile."""
MAX_DOMAINS: Final = 100_000
"""Domains whose group is remembered."""

log = structlog.get_logger()


class Standing(Protocol):
    """One candidacy; see `coordination.presence`."""

    @property
    def epoch(self) -> int: ...

    def accepts(self, now_boot_ns: int) -> bool: ...

    async def withdraw(self) -> None: ...


class Stands(Protocol):
    """Who knows how to stand for an office: a `coordination.presence.Presence`."""

    def stand(
        self,
        label: str,
        group: str,
        order: int,
        body: bytes,
        *,
        preempt: bool,
        taken: Callable[[int], Awaitable[None]],
        left: Callable[[], Awaitable[None]],
    ) -> Standing:
        """Await `taken(epoch)` when the office is taken, `left()` before it is given up, or once it is lost."""


class Candidacy(msgspec.Struct, frozen=True, kw_only=True):
    """How a node stands for offices."""

    presence: Stands
    groups: groups.Groups
    """Which group a domain belongs to."""
    stands_for: Sequence[str]
    """The groups whose offices this node wants."""
    order: int
    """The lowest of those that live is active."""
    preempt: bool
    """Whether a better candidate that comes later takes over."""
    address: Callable[[], network.Address]
    """Where this node is reached; asked when the service starts."""
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


class Everywhere:
    """The one instance of a service of which every instance serves."""

    def __init__(self, declared: services.Declared, threads: ThreadPoolExecutor) -> None:
        self._declared = declared
        self._threads = threads
        self._instance: instances.Instance | None = None

    @property
    def active(self) -> bool:
        return self._instance is not None and not self._instance.closing

    @property
    def calls(self) -> int:
        return 0 if self._instance is None else self._instance.calls

    def told(self) -> Any:
        return self.active

    def admit(self, domain: str, epoch: int) -> int:
        """Everything, under no epoch: the same at accept and before the reply."""
        return 0

    def instance(self, domain: str) -> instances.Instance:
        if self._instance is None:
            raise errors.NotActive(f"{self._declared.label} does not serve at this node: look it up again", ran="no")
        return self._instance

    async def start(self) -> None:
        """Raises StartupError: a node without its service is of no use to anybody."""
        try:
            made = instances.Instance(self._declared, self._threads)
            await made.start()
        except Exception as error:
            label, said = self._declared.label, " ".join(str(error).split())
            log.error("the service's start() raised", service=label, exc_info=True)
            raise errors.StartupError(
                f"service {label} cannot start: {type(error).__name__}: {said}: mend its start(), or what that needs"
            ) from None
        self._instance = made

    async def end(self, grace_seconds: float) -> None:
        if self._instance is not None and not self._instance.closing:
            await self._instance.close(grace_seconds)


class Seat:
    """The office of one group: this node's standing for it, and the instance while it is held."""

    def __init__(self, group: str) -> None:
        self.group = group
        self.epoch = 0
        """The epoch under which `instance` serves; 0 while it does not."""
        self.instance: instances.Instance | None = None
        self.standing: Standing | None = None

    def serves(self, now_boot_ns: int) -> bool:
        """Tell whether new requests are taken."""
        held = self.epoch and self.standing is not None and self.standing.accepts(now_boot_ns)
        return bool(held) and self.instance is not None and not self.instance.closing


class Offices:
    """The offices of a service of which one instance a group serves."""

    def __init__(
        self, declared: services.Declared, threads: ThreadPoolExecutor, candidacy: Candidacy, clock: clock.Clock
    ) -> None:
        self._declared = declared
        self._threads = threads
        self._candidacy = candidacy
        self._clock = clock
        self._seats = {group: Seat(group) for group in candidacy.stands_for}
        self._by_domain: dict[str, Seat] = {}

    @property
    def active(self) -> bool:
        now = self._clock.boot()
        return any(seat.serves(now) for seat in self._seats.values())

    @property
    def calls(self) -> int:
        return sum(seat.instance.calls for seat in self._seats.values() if seat.instance is not None)

    def told(self) -> Any:
        return {seat.group: seat.epoch for seat in self._seats.values() if seat.epoch}

    def admit(self, domain: str, epoch: int) -> int:
        seat = self._by_domain.get(domain) or self._find(domain)
        own, standing = seat.epoch, seat.standing
        if not own or standing is None:
            raise errors.NotActive(f"{self._declared.label} of {domain} stands by at this node: look it up again", ran="no")
        if epoch and epoch != own:
            raise errors.WrongEpoch(
                f"{self._declared.label} of {domain} serves under epoch {own}, not {epoch}: look it up again", ran="no", epoch=own
            )
        if not standing.accepts(self._clock.boot()):
            raise errors.LeaseUnconfirmed(
                f"{self._declared.label} of {domain} cannot tell whether it is still the active one: try again", ran="no"
            )
        return own

    def instance(self, domain: str) -> instances.Instance:
        """Return the instance that serves a domain, right after it was admitted."""
        found = self._by_domain[domain].instance
        assert found is not None
        return found

    async def start(self) -> None:
        for seat in self._seats.values():
            self._stand(seat)

    async def end(self, grace_seconds: float) -> None:
        await asyncio.gather(*(self._end(seat, grace_seconds) for seat in self._seats.values()))

    async def _end(self, seat: Seat, grace_seconds: float) -> None:
        """The running calls end while the office is still held, so that their answers count."""
        if seat.instance is not None and not seat.instance.closing:
            await seat.instance.close(grace_seconds)
        if seat.standing is not None:
            standing, seat.standing = seat.standing, None
            await standing.withdraw()
        seat.epoch = 0

    def _stand(self, seat: Seat) -> None:
        async def taken(epoch: int) -> None:
            await self._take(seat, epoch)

        async def left() -> None:
            await self._leave(seat)

        given = self._candidacy
        label = self._declared.label
        seat.standing = given.presence.stand(
            label, seat.group, given.order, given.office(label, seat.group), preempt=given.preempt, taken=taken, left=left
        )

    async def _take(self, seat: Seat, epoch: int) -> None:
        """Serve as soon as the instance has started. What that raises gives another node its chance: see `stand`."""
        seat.instance = instances.Instance(self._declared, self._threads)
        await seat.instance.start()
        seat.epoch = epoch
        log.info("active", service=self._declared.label, group=seat.group, epoch=epoch)

    async def _leave(self, seat: Seat) -> None:
        """Stop serving: at once when the office is lost, with some grace while it is still held."""
        held = seat.standing is not None and seat.standing.accepts(self._clock.boot())
        try:
            if seat.instance is not None and not seat.instance.closing:
                await seat.instance.close(HAND_OVER_SECONDS if held else 0)
        finally:  # Also when that is cut off: the office may come back, and under its old epoch nothing is accepted again.
            if seat.epoch:
                log.info("no longer active", service=self._declared.label, group=seat.group, epoch=seat.epoch)
            seat.instance, seat.epoch = None, 0

    def _find(self, domain: str) -> Seat:
        seat = self._seats.get(group := self._candidacy.groups.of(domain))
        if seat is None:
            raise errors.NotActive(
                f"{self._declared.label} of {domain} belongs to group {group}, which is not this node's: look it up again",
                ran="no",
            )
        if len(self._by_domain) >= MAX_DOMAINS:
            self._by_domain.clear()
        self._by_domain[domain] = seat
        return seat
