"""Answers lookups from memory and pushes what changes to subscribers. Active-active; the book is `names.directory`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Final

import msgspec
import structlog

from callboard import errors
from callboard.app import exposure
from callboard.coordination import engine
from callboard.kit import clock
from callboard.names import directory, groups, model, protocol
from callboard.roles import role
from callboard.roles.registry import feed, patrol, watch
from callboard.rpc import network, peers, serving

CATCH_UP_SECONDS: Final = 0.25
"""How soon a subscriber whose connection took no more is told that it missed something."""
_pack = msgspec.msgpack.Encoder().encode
log = structlog.get_logger("callboard.registry")


class Registry(role.Role):
    """One registry. It needs a session of coordination, which may be out of reach, and the node's wire; both started."""

    name: ClassVar[str] = protocol.REGISTRY

    def __init__(
        self,
        session: engine.Session,
        wire: peers.Peers,
        grouping: groups.Groups,
        clock: clock.Clock,
        *,
        chance: Callable[[], float] = random.random,
        limits: watch.Limits = watch.Limits(),  # noqa: B008  # Frozen.
    ) -> None:
        super().__init__()
        self._wire = wire
        self._book = directory.Directory(grouping)
        self._feed = feed.Feed(session, self._book, self._push, chance=chance)
        self._patrol = patrol.Patrol(session, wire, self._book, clock, self._silenced, limits)
        self._serial = 1
        self._subscribers: set[str] = set()
        self._behind: set[str] = set()
        self._catching_up: asyncio.TimerHandle | None = None
        self._groups = grouping.digest()
        self._end: Callable[[], None] = _nothing
        self._methods = exposure.methods(self)

    @property
    def methods(self) -> dict[str, serving.Method]:
        return self._methods

    def admit(self, domain: str, epoch: int) -> int:
        """Raises NotActive until the book was read: an empty one would say that nobody is there."""
        if not self._feed.loaded:
            raise errors.NotActive("this registry has not read who is there: ask another one", ran="no")
        return 0

    def facts(self) -> Mapping[str, Any]:
        return {"labels": len(self._book.labels()), "stale": self._feed.stale, "subscribers": len(self._subscribers)}

    async def ping(self) -> Mapping[str, Any]:
        return {**await super().ping(), **self.facts(), **self._patrol.facts()}

    async def _start(self) -> None:
        self._end = self._wire.on_gone(self._gone)
        await self._feed.start()
        await self._patrol.start()

    async def _stop(self) -> None:
        self._end()
        if self._catching_up is not None:
            self._catching_up.cancel()
        await self._patrol.stop()
        await self._feed.stop()

    # Exposed.

    @exposure.method(idempotent=True)
    async def lookup(self, name: str) -> protocol.Found:
        """Return who answers for a name. Raises InvalidName, UnknownName, DomainNotServed, InterfaceConflict."""
        return protocol.Found(self._said(self._book.lookup(model.parse(name))), self._serial)

    @exposure.method(idempotent=True)
    async def listing(self, prefix: str = "") -> protocol.Listing:
        """Return every name that somebody answers and that begins with a prefix, with those who stand by."""
        return protocol.Listing(self._book.listing(prefix), self._feed.stale)

    @exposure.method(idempotent=True)
    async def recipients(self, target: str) -> list[network.Address]:
        """Return every node that hosts a role or a service. Raises InvalidName, UnknownName, InterfaceConflict."""
        return self._book.recipients(model.parse_target(target))

    @exposure.method(idempotent=True)
    async def subscribe(self, call: serving.Call, seats: list[tuple[str, str]]) -> protocol.Subscribed:
        """Push changes to the caller from now on, as long as its connection lasts; return the answers of some seats."""
        self._subscribers.add(call.caller)
        return protocol.Subscribed(self._serial, self._groups, self._answers(seats))

    @exposure.method(idempotent=True)
    async def second(self, label: str, group: str, epoch: int) -> bool:
        """Tell whether this registry, too, finds that the holder of an office does not answer."""
        return await self._patrol.second(label, group, epoch)

    # Changes.

    def _said(self, answer: model.Answer) -> model.Answer:
        if not self._feed.stale:
            return answer
        self._feed.told_stale((answer.label, answer.group))
        return msgspec.structs.replace(answer, stale=True)

    def _answers(self, seats: Iterable[directory.Seat]) -> list[model.Answer]:
        answers = []
        for seat in seats:
            try:
                answers.append(self._said(self._book.answer(seat)))
            except errors.CallError:
                continue  # Who wants to know asks, and is told why.
        return answers

    def _silenced(self, incarnations: frozenset[str]) -> None:
        seats = self._book.silence(incarnations)
        if seats:
            self._push(seats)

    def _push(self, seats: set[directory.Seat]) -> None:
        changed = sorted(seats)
        for first in range(0, len(changed), protocol.SEATS_AT_ONCE):
            some = changed[first : first + protocol.SEATS_AT_ONCE]
            self._serial += 1
            body = _pack(protocol.Changed(self._serial, some, self._answers(some)))
            for subscriber in sorted(self._subscribers):
                self._tell(subscriber, body)

    def _tell(self, subscriber: str, body: bytes) -> None:
        if not self._wire.notify(subscriber, protocol.TOPIC, body) and subscriber in self._subscribers:
            self._behind.add(subscriber)
            if self._catching_up is None:
                self._catching_up = asyncio.get_running_loop().call_later(CATCH_UP_SECONDS, self._catch_up)

    def _catch_up(self) -> None:
        """Tell those whose connections took no more that something was lost: the gap makes them subscribe anew."""
        self._catching_up = None
        behind, self._behind = self._behind, set()
        self._serial += bool(behind)
        body = _pack(protocol.Changed(self._serial, [], []))
        for subscriber in sorted(self._subscribers):
            self._tell(subscriber, body)

    def _gone(self, subscriber: str) -> None:
        self._subscribers.discard(subscriber)
        self._behind.discard(subscriber)


def _nothing() -> None:
    """Nothing to end: it was not started."""
