"""In every node: looks names up, remembers the answers, and calls whoever answers.

A cached name costs a call two dict lookups and one request. What goes wrong is `insisting`'s affair, how registries are found
`registries`', what is asked of them `finder`'s.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping

import msgspec

from callboard import errors
from callboard.kit import grammar, lifecycle
from callboard.names import cache, finder, insisting, model, protocol, registries
from callboard.rpc import broadcast, network, peers

_pack = msgspec.msgpack.Encoder().encode
_pong = msgspec.msgpack.Decoder(protocol.Pong)


class Resolver(lifecycle.Lifecycle):
    """Who answers for a name, and the way there. On one event loop; any number of calls at a time."""

    def __init__(self, wire: peers.Peers, doors: registries.ReadDoors, *, chance: Callable[[], float] = random.random) -> None:
        super().__init__()
        self._wire = wire
        self._chance = chance
        self._cache = cache.Cache()
        self._names = self._cache.names
        self._registries = registries.Registries(wire, doors, self._cache, chance=chance)
        self._dead = self._registries.dead
        self._finder = finder.Finder(self._registries, self._cache)
        self._broadcasts = 0

    async def _start(self) -> None:
        await self._registries.start()

    async def _stop(self) -> None:
        await self._registries.stop()
        await self._finder.stop()

    @property
    def home(self) -> network.Address | None:
        """The registry that pushes changes to this node; None while there is none."""
        return self._registries.home

    def facts(self) -> Mapping[str, object]:
        """Return what this node remembers, for people."""
        home = self.home.incarnation if self.home is not None else ""
        return {"registry": home, "dead": len(self._dead), **self._cache.facts()}

    # Names.

    def cached(self, name: str, domain: str = grammar.DEFAULT_DOMAIN) -> model.Answer | None:
        """Return what is remembered of a name, None when it must be asked for."""
        known = self._names.get(name if domain == grammar.DEFAULT_DOMAIN else (name, domain))
        return known[0].answer if known is not None else None

    async def lookup(
        self, name: str, *, ping: bool = False, timeout: float = 5.0, domain: str = grammar.DEFAULT_DOMAIN
    ) -> model.Answer:
        """Return who answers for a name now; `instances` is empty while nobody does although the name is known.

        `ping` asks the instance itself before it is named, for a request that must not go astray: the first of `instances` has
        answered just now. Raises InvalidName, UnknownName, DomainNotServed, InterfaceConflict; NotActive when no instance is
        known or, with `ping`, answers; Unreachable when neither a registry nor any node answers; DeadlineExceeded.
        """
        answer = self.cached(name, domain)
        if answer is not None and not ping:
            return answer
        try:
            async with asyncio.timeout(timeout):
                known = self._names.get(cache.key(name, domain))
                fresh = known is None or answer is None
                seat = await self._finder.find(name, domain) if known is None or fresh else known[0]
                if not ping:
                    return _given(seat)
                answer = await self._pinged(seat)
                if answer is None and not fresh:
                    answer = await self._pinged(await self._finder.find(name, domain))
        except TimeoutError:
            raise errors.DeadlineExceeded(f"nobody said who answers for {name} within {timeout:g} s", ran="no") from None
        if answer is None:
            raise errors.NotActive(f"no instance of {name} answers a ping: none is alive, or in reach", ran="no")
        return answer

    async def _pinged(self, seat: cache.Seat) -> model.Answer | None:
        answer, tried = _given(seat), set[str]()
        while (address := seat.next(self._dead, tried)) is not None:
            tried.add(address.incarnation)
            if await self._answers(address, answer):
                others = tuple(each for each in answer.instances if each != address)
                return msgspec.structs.replace(answer, instances=(address, *others))
            if seat.answer is not None and seat.answer != answer:  # Others came meanwhile, or the epoch is another one.
                answer, tried = seat.answer, set()
        return None

    async def _answers(self, address: network.Address, answer: model.Answer) -> bool:
        args = _pack({"label": answer.label, "group": answer.group, "epoch": answer.epoch})
        try:
            said = await self._registries.request(address, protocol.NODE, "ping", args, registries.ASK_SECONDS)
            return registries.understood(_pong.decode, said).office == "held"
        except errors.CallboardError:
            return False

    async def listing(self, prefix: str = "", *, timeout: float = 5.0) -> protocol.Listing:
        """Return all names that begin with a prefix, and who answers or stands by; a registry has to be in reach.

        Raises Unreachable when none answers, DeadlineExceeded.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._finder.listing(prefix)
        except TimeoutError:
            raise errors.DeadlineExceeded(f"no registry said what names there are within {timeout:g} s", ran="no") from None

    # Calls.

    async def call(
        self,
        name: str,
        method: str,
        args: bytes,
        *,
        timeout: float = 10.0,
        meta: dict[str, str] | None = None,
        domain: str = grammar.DEFAULT_DOMAIN,
    ) -> bytes:
        """Call a method of whoever answers for a name; `args` is a MessagePack map. Returns the encoded result.

        A call that surely did not begin is made again, elsewhere or when somebody is active again, until `timeout` seconds are
        over; one that may have begun, only when the method is declared idempotent. Raises what the method raises, and CallErrors
        whose `data["ran"]` says whether it was begun. Never takes longer than `timeout`.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        known = self._names.get(name if domain == grammar.DEFAULT_DOMAIN else (name, domain))
        if known is None:
            return await self._insisting(name, domain, method, args, meta, deadline).run()
        seat, asked = known
        answer = seat.answer
        address = seat.next(self._dead)
        if answer is None or address is None:
            return await self._insisting(name, domain, method, args, meta, deadline).run()
        try:
            result = await self._wire.request(
                address,
                label=seat.label,
                domain=asked,
                method=method,
                args=args,
                epoch=answer.epoch,
                timeout=timeout,
                incarnation=seat.incarnation,
                meta=meta,
            )
        except errors.CallboardError as error:
            going_on = self._insisting(name, domain, method, args, meta, deadline)
            going_on.failed(error, answer, address)
            return await going_on.run()
        assert isinstance(result, bytes)  # Else comes only to those who elect.
        return result

    async def broadcast(
        self, target: str, method: str, args: bytes, *, mode: broadcast.Mode = "all", timeout: float = 10.0
    ) -> list[broadcast.Outcome]:
        """Call a method of every instance of a role or a service; return one outcome for each, within `timeout` seconds.

        Raises InvalidName, UnknownName when there is no recipient, InterfaceConflict, Unreachable, DeadlineExceeded.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        parsed = model.parse_target(target)
        try:
            async with asyncio.timeout_at(deadline):
                found = await self._finder.recipients(parsed)
        except TimeoutError:
            raise errors.DeadlineExceeded(f"nobody said who is {target} within {timeout:g} s", ran="no") from None
        self._broadcasts += 1
        recipients = [broadcast.Recipient(f"{parsed.label}/{each.incarnation}", each, parsed.label) for each in found]
        key = f"{parsed}/{method}/{self._wire.identity.incarnation}/{self._broadcasts}"
        left = deadline - loop.time()
        return await broadcast.gather(self._wire, recipients, method, args, mode=mode, timeout=left, key=key)

    def _insisting(
        self, name: str, domain: str, method: str, args: bytes, meta: dict[str, str] | None, deadline: float
    ) -> insisting.Insisting:
        asked = insisting.Asked(name, domain, method, args, meta, deadline)
        return insisting.Insisting(self._wire, self._cache, self._registries, self._finder, asked, self._chance)


def _given(seat: cache.Seat) -> model.Answer:
    if seat.answer is None:
        raise errors.NotActive(f"{seat.label} changes hands just now: ask again", ran="no")
    return seat.answer
