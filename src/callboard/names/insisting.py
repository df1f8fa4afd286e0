"""A call that did not succeed at once: fresh lookups, the next instance, waiting for a push, until its deadline.

`retries` says whether; this says where and when. Begun by the resolver where a name is not cached, or the first try went wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import msgspec

from callboard import errors
from callboard.kit import backoff
from callboard.names import cache, finder, model, registries, retries
from callboard.rpc import network, peers

FIRST_SECONDS: Final = 0.01
MOST_SECONDS: Final = 0.5
"""Between two tries at a name that nobody answers for; a push ends the wait at once."""
TRY_SECONDS: Final = 0.005
"""Another try that has less time than this is not made: why the last one went wrong says more than that it came too late."""
REFUSALS: Final = 3
"""How often nodes may say that they are overloaded, or not meant, before that is the caller's answer."""


class Asked(msgspec.Struct):
    """What is called. `deadline` is in the running loop's time."""

    name: str
    domain: str
    method: str
    args: bytes
    meta: dict[str, str] | None
    deadline: float


class Insisting:
    """One call, from its first failure or its first lookup on."""

    def __init__(
        self,
        wire: peers.Peers,
        book: cache.Cache,
        known: registries.Registries,
        finding: finder.Finder,
        asked: Asked,
        chance: Callable[[], float],
    ) -> None:
        self._wire = wire
        self._book = book
        self._registries = known
        self._finder = finding
        self._asked = asked
        self._key = cache.key(asked.name, asked.domain)
        self._loop = asyncio.get_running_loop()
        self._backoff = backoff.Backoff(FIRST_SECONDS, MOST_SECONDS, chance)
        self._tried: set[str] = set()
        self._spent: model.Answer | None = None
        """An answer of which every instance was tried."""
        self._met: model.Answer | None = None
        """The last one of which that is true."""
        self._error: errors.CallboardError | None = None
        self._refusals = 0
        self._begun = False

    async def run(self) -> bytes:
        """Return the result, or raise why there is none."""
        try:
            while True:
                seat, domain = await self._seat()
                answer = seat.answer
                address = seat.next(self._registries.dead, self._tried)
                if answer is None or address is None:
                    self._nobody(answer)
                    continue
                try:
                    return await self._request(seat, domain, answer, address)
                except errors.CallboardError as error:
                    self.failed(error, answer, address)
        except errors.CallboardError as error:
            if self._begun and retries.ran(error) == "no":
                error.data["ran"] = "unknown"  # This try did not begin; one before it may have.
            raise

    def _nobody(self, answer: model.Answer | None) -> None:
        """Nobody is there, or all were tried."""
        if answer != self._met:
            self._met = answer
            self._backoff.succeeded()  # News: who was named just now may be about to serve.
        self._spent = answer
        self._tried.clear()
        if answer is not None and not answer.instances:
            self._error = errors.NotActive(f"{self._asked.name} has no active instance just now: try again later", ran="no")

    def failed(self, error: errors.CallboardError, answer: model.Answer, address: network.Address) -> None:
        """Take note of a try that went wrong; raise it when that is final."""
        if retries.absent(error):
            self._registries.missed(address)
        if not retries.again(error, idempotent=self._asked.method in answer.idempotent):
            raise error
        if isinstance(error, retries.REFUSED):
            self._refusals += 1
            if self._refusals >= REFUSALS:
                raise error
        self._error = error
        self._begun |= retries.ran(error) != "no"
        self._tried.add(address.incarnation)

    async def _request(self, seat: cache.Seat, domain: str, answer: model.Answer, address: network.Address) -> bytes:
        result = await self._wire.request(
            address,
            label=seat.label,
            domain=domain,
            method=self._asked.method,
            args=self._asked.args,
            epoch=answer.epoch,
            timeout=self._left(),
            incarnation=seat.incarnation,
            meta=self._asked.meta,
        )
        assert isinstance(result, bytes)  # Else comes only to those who elect.
        return result

    async def _seat(self) -> tuple[cache.Seat, str]:
        """Return who answers, and the domain that is asked for; not what was tried in vain, unless some time has passed."""
        while True:
            known = self._book.names.get(self._key)
            if known is None or known[0].answer is None or known[0].answer == self._spent:
                await self._fresh()
                known = self._book.names.get(self._key)
            if known is not None and known[0].answer is not None and known[0].answer != self._spent:
                return known
            await self._pause(known[0] if known is not None else None)
            self._spent = None

    async def _fresh(self) -> None:
        try:
            async with asyncio.timeout_at(self._asked.deadline):
                await self._finder.find(self._asked.name, self._asked.domain)
        except TimeoutError:
            raise self._final() from None
        except (errors.NotActive, errors.Unreachable) as error:
            self._error = self._error or error

    async def _pause(self, seat: cache.Seat | None) -> None:
        """Wait a little, or until a registry says that the seat changed."""
        woken: asyncio.Future[None] = self._loop.create_future()
        if seat is not None:
            seat.waiting.add(woken)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(self._backoff.failed(), self._left())):
                    await woken
        finally:
            if seat is not None:
                seat.waiting.discard(woken)

    def _left(self) -> float:
        """Return the seconds left. Raises the final error when there are none, or too few to try again."""
        left = self._asked.deadline - self._loop.time()
        if left <= (0.0 if self._error is None else TRY_SECONDS):
            raise self._final()
        return left

    def _final(self) -> errors.CallboardError:
        return self._error or errors.DeadlineExceeded(f"nobody said in time who answers for {self._asked.name}", ran="no")
