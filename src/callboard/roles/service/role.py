"""The service role: one declared service of a node, between its table and its instances."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Final

from callboard import errors
from callboard.app import services
from callboard.kit import clock
from callboard.names import model
from callboard.roles import offices, role
from callboard.roles.service import everywhere
from callboard.roles.service import instance as instances
from callboard.rpc import serving

THREADS: Final = 32
"""Methods that are not async which one service runs at a time in a node; more wait. Threads are made as they are needed."""


class Service(role.Role):
    """Hosts one declared service. `candidacy` is needed for `active="one"`, and not looked at otherwise.

    Ready as soon as it stands; active while an instance may serve. Draining refuses new calls with NotActive, `ran="no"`, so
    that callers go elsewhere, gives running ones their grace time, and then gives the offices back.
    """

    name: ClassVar[str] = "service"

    def __init__(self, declared: services.Declared, *, clock: clock.Clock, candidacy: offices.Candidacy | None = None) -> None:
        super().__init__()
        self._declared = declared
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=f"callboard-{declared.label}")
        self._seats: everywhere.Everywhere | offices.Offices[instances.Instance]
        if declared.active == "all":
            self._seats = everywhere.Everywhere(declared, self._threads)
        elif candidacy is None:
            raise errors.InvalidInput(f"service {declared.label} has one active instance: it needs a candidacy")
        else:
            self._seats = offices.Offices(declared.label, candidacy, clock, self._made)
        self._methods = {name: self._method(name, one.idempotent) for name, one in declared.methods.items()}

    @property
    def label(self) -> str:
        return self._declared.label

    @property
    def active(self) -> bool:
        return self._seats.active

    @property
    def methods(self) -> Mapping[str, serving.Method]:
        return self._methods

    @property
    def offer(self) -> model.Offer:
        """What the node's entry says of this service."""
        return self._declared.offer

    def admit(self, domain: str, epoch: int) -> int:
        return self._seats.admit(domain, epoch)

    def facts(self) -> Mapping[str, Any]:
        return {"service": self.label, "active": self._seats.told(), "methods": sorted(self._methods)}

    async def ping(self) -> Mapping[str, Any]:
        return {**await super().ping(), "service": self.label, "calls": sum(work.calls for work in self._seats.works)}

    def _made(self, seat: offices.Seat[instances.Instance], epoch: int) -> instances.Instance:
        return instances.Instance(self._declared, self._threads)

    def _method(self, name: str, idempotent: bool) -> serving.Method:
        places = self._seats

        def run(call: serving.Call, args: bytes) -> Awaitable[bytes]:
            return places.work(call.domain).run(name, call, args)

        return serving.Method(name, run, idempotent)

    async def _start(self) -> None:
        await self._seats.start()

    async def _drain(self, grace_seconds: float) -> None:
        await self._seats.end(grace_seconds)

    async def _stop(self) -> None:
        await self._seats.end(0)
        self._threads.shutdown(wait=False, cancel_futures=True)
