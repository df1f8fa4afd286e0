"""Asks for names: a registry, or, when none answers, the nodes of the configured servers one by one. What it hears goes into the
cache. The resolver's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from callboard import errors
from callboard.names import cache, model, protocol, registries, retries
from callboard.rpc import doors, network

TRIES: Final = 3
"""How often home is asked again, when it answered before a push that came first."""
T = TypeVar("T")
_pack = msgspec.msgpack.Encoder().encode
_found = msgspec.msgpack.Decoder(protocol.Found)
_answer = msgspec.msgpack.Decoder(model.Answer)
_listing = msgspec.msgpack.Decoder(protocol.Listing)
_addresses = msgspec.msgpack.Decoder(list[network.Address])
_offers = msgspec.msgpack.Decoder(list[model.Offer])


class Finder:
    """Lookups under way. On one event loop; those who ask for one name at the same time share the answer."""

    def __init__(self, known: registries.Registries, book: cache.Cache) -> None:
        self._registries = known
        self._book = book
        self._asking: dict[cache.Key, asyncio.Task[cache.Seat]] = {}

    async def stop(self) -> None:
        """End all lookups."""
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def find(self, name: str, domain: str) -> cache.Seat:
        """Ask for a name, whatever is remembered.

        Raises what a registry says of it: UnknownName, DomainNotServed, InterfaceConflict, InvalidName. Without one, NotActive
        when no node says that it answers, Unreachable when not even that is sure.
        """
        key = cache.key(name, domain)
        task = self._asking.get(key)
        if task is None:
            parsed = model.parse(name, domain)
            task = self._asking[key] = asyncio.create_task(self._find(key, parsed))
            task.add_done_callback(lambda done: self._ended(key, done))
        return await asyncio.shield(task)

    async def recipients(self, target: model.Target) -> list[network.Address]:
        """Return every node that hosts a role or a service. Raises UnknownName, InterfaceConflict, Unreachable."""
        try:
            said, _ = await self._registries.ask("recipients", _pack({"target": str(target)}), _addresses.decode)
            return said
        except errors.Unreachable as error:
            if retries.ran(error) != "no":
                raise
            return await self._ask_offers(target)
        except errors.CallError as error:
            raise _unbegun(error) from None

    async def listing(self, prefix: str) -> protocol.Listing:
        """Return all names that begin with a prefix, as a registry knows them. Raises Unreachable when none answers."""
        said, _ = await self._registries.ask("listing", _pack({"prefix": prefix}), _listing.decode)
        return said

    def _ended(self, key: cache.Key, task: asyncio.Task[cache.Seat]) -> None:
        del self._asking[key]
        if not task.cancelled():
            task.exception()  # Whoever asked may have left.

    async def _find(self, key: cache.Key, name: model.Name) -> cache.Seat:
        exact = f"/{name.incarnation}" if name.incarnation else ""
        args = _pack({"name": f"{name.label}@{name.domain}{exact}"})
        try:
            found, kept = await self._ask_registry(args)
        except errors.Unreachable as error:
            if retries.ran(error) != "no":
                raise
            return self._book.remember(key, name, await self._ask_nodes(name, args), kept=False)
        except errors.CallError as error:
            raise _unbegun(error) from None
        return self._book.remember(key, name, found, kept=kept)

    async def _ask_registry(self, args: bytes) -> tuple[model.Answer, bool]:
        """Return the answer, and whether whoever gave it tells when it changes."""
        for _ in range(TRIES):
            found, registry = await self._registries.ask("lookup", args, _found.decode)
            if not self._registries.outdated(registry, found.serial):
                return found.answer, registry == self._registries.home
        return found.answer, False

    async def _ask_nodes(self, name: model.Name, args: bytes) -> model.Answer:
        said: list[errors.CallboardError] = []
        for door in await self._registries.doors():
            try:
                return await self._ask_node(door, "serves", args, _answer.decode)
            except errors.CallboardError as error:
                said.append(error)
        raise _nobody(name, said)

    async def _ask_offers(self, target: model.Target) -> list[network.Address]:
        found = []
        for door in await self._registries.doors():
            try:
                offers = await self._ask_node(door, "offers", _pack({}), _offers.decode)
            except errors.CallboardError:
                continue
            if any(offer.kind == target.kind and offer.label == target.label for offer in offers):
                found.append(door.address)
        if not found:
            raise errors.Unreachable(f"no registry answers, and no node says that it is {target}", ran="no")
        return found

    async def _ask_node(self, door: doors.Door, method: str, args: bytes, read: Callable[[bytes], T]) -> T:
        said = await self._registries.request(door.address, protocol.NODE, method, args, registries.ASK_SECONDS)
        return registries.understood(read, said)


def _nobody(name: model.Name, said: list[errors.CallboardError]) -> errors.CallboardError:
    """Return what nodes that do not answer for a name come to."""
    others = [error for error in said if not isinstance(error, errors.UnknownName)]
    if said and not others:
        return errors.UnknownName(f"no registry answers, and none of {len(said)} nodes answers for {name}", ran="no")
    for error in others:
        if isinstance(error, errors.DomainNotServed):
            return _unbegun(error)
    if any(isinstance(error, (errors.NotActive, errors.LeaseUnconfirmed)) for error in others):
        return errors.NotActive(f"{name} has no active instance just now, as far as nodes say", ran="no")
    return errors.Unreachable(f"neither a registry nor a node says who answers for {name}", ran="no")


def _unbegun(error: errors.CallboardError) -> errors.CallboardError:
    """Return what was said of a lookup as said of the call that needed it: that did not begin."""
    error.data["ran"] = "no"
    return error
