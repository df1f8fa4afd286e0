"""Pings what is registered, and deposes whoever holds an office and does not answer: not alone, if there is another registry.

`watch` judges; this acts. Each office is pinged by name and epoch at its node, a node without an office by itself. Nobody at the
accused's own node is asked to agree, and nobody is accused to whom there is no way from here at all: nodes of another server,
where servers that share coordination have no certificates.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import structlog

from callboard import errors
from callboard.coordination import election, engine
from callboard.kit import clock, grammar, lifecycle, telemetry
from callboard.names import directory, model, protocol
from callboard.roles.registry import watch
from callboard.rpc import network, peers

STRANGERS_SECONDS: Final = 600.0
"""Between two words about nodes to which there is no way."""
_pack = msgspec.msgpack.Encoder().encode
_pong = msgspec.msgpack.Decoder(protocol.Pong)
_agreed = msgspec.msgpack.Decoder(bool)
log = structlog.get_logger("callboard.registry")


class Beat(msgspec.Struct, frozen=True):
    """What one ping is for: a node, or an office there."""

    address: network.Address
    label: str = ""
    group: str = ""
    epoch: int = 0

    @property
    def seat(self) -> directory.Seat:
        return self.label, self.group


class Patrol(lifecycle.Lifecycle):
    """The rounds of one registry. `silenced` hears which nodes do not answer, whenever that changes. On one event loop."""

    def __init__(
        self,
        session: engine.Session,
        wire: peers.Peers,
        book: directory.Directory,
        clock: clock.Clock,
        silenced: Callable[[frozenset[str]], None],
        limits: watch.Limits,
    ) -> None:
        super().__init__()
        self._session = session
        self._wire = wire
        self._book = book
        self._clock = clock
        self._silenced = silenced
        self._limits = limits
        self._records: dict[Beat, watch.Record] = {}
        self._silent: frozenset[str] = frozenset()
        self._round = 0
        """Grows whenever all counts start again: pings from before count for nothing."""
        self._pinging: dict[Beat, asyncio.Task[None]] = {}
        self._accusing: dict[Beat, asyncio.Task[None]] = {}
        self._rounds: asyncio.Task[None] | None = None
        self._strangers = telemetry.Seldom(clock, STRANGERS_SECONDS)

    async def _start(self) -> None:
        self._rounds = asyncio.create_task(self._go())

    async def _stop(self) -> None:
        tasks = [*self._pinging.values(), *self._accusing.values(), *([self._rounds] if self._rounds is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def second(self, label: str, group: str, epoch: int) -> bool:
        """Tell whether this registry, too, finds that the holder of an office does not answer. It asks now, if need be."""
        held = self._book.held().get((label, group))
        if held is None or held.epoch != epoch or held.office.incarnation == self._wire.identity.incarnation:
            return False
        if not self._wire.knows(held.office.address):
            return False
        beat = Beat(held.office.address, label, group, epoch)
        if watch.suspicion(self._records.get(beat, watch.Record()), self._clock.boot(), self._limits):
            return True
        return await self._ping(beat) in ("nothing", "absent")

    async def _go(self) -> None:
        period = self._limits.period_seconds
        due = self._clock.boot()
        while True:
            now = self._clock.boot()
            if watch.late(due, now, self._limits):
                self._start_again(f"this registry was {(now - due) / watch.NS:.1f} s late")
            beats = self._beats()
            self._records = {beat: self._records.get(beat, watch.Record()) for beat in beats}
            self._tell()
            for beat in beats:
                if beat not in self._pinging:
                    task = self._pinging[beat] = asyncio.create_task(self._look(beat))
                    task.add_done_callback(lambda _, beat=beat: self._pinging.pop(beat, None))  # type: ignore[misc]
            due = self._clock.boot() + round(period * watch.NS)
            await asyncio.sleep(period)

    def _beats(self) -> list[Beat]:
        """Return whom to ping: every office, and every node that holds none."""
        own = self._wire.identity.incarnation
        beats = []
        busy = {own}
        for (label, group), held in self._book.held().items():
            if held.office.incarnation != own:
                busy.add(held.office.incarnation)
                beats.append(Beat(held.office.address, label, group, held.epoch))
        beats += [Beat(facts.address) for facts in self._book.present() if facts.incarnation not in busy]
        return beats

    async def _look(self, beat: Beat) -> None:
        """Ping; after a miss again, without waiting for the next round."""
        counted = self._round
        while True:
            began = self._clock.boot()
            heard = await self._ping(beat)
            if heard is None or counted != self._round or beat not in self._records:
                return
            record = self._records[beat] = watch.judged(self._records[beat], heard, self._clock.boot())
            self._tell()
            self._suspect(beat, record)
            if not 0 < record.misses < self._limits.misses:
                return
            await asyncio.sleep(self._limits.period_seconds - (self._clock.boot() - began) / watch.NS)

    def _suspect(self, beat: Beat, record: watch.Record) -> None:
        why = watch.suspicion(record, self._clock.boot(), self._limits)
        if why and not self._wire.knows(beat.address):
            self._strangers.warning(
                "there is no way to a node of another server: give servers that share coordination certificates (wire.server)",
                node=beat.address.incarnation,
            )
        elif why and beat.label and beat not in self._accusing and self._session.state is engine.State.CONNECTED:
            task = self._accusing[beat] = asyncio.create_task(self._accuse(beat, why))
            task.add_done_callback(lambda _: self._accusing.pop(beat, None))

    async def _ping(self, beat: Beat) -> watch.Heard | None:
        """Return what one ping comes to; None when this registry itself was late."""
        due = self._clock.boot() + round(self._limits.timeout_seconds * watch.NS)
        args = _pack({"label": beat.label, "group": beat.group, "epoch": beat.epoch})
        try:
            office = _pong.decode(await self._ask(beat.address, protocol.NODE, "ping", args)).office
        except (errors.CallboardError, ValueError):  # What makes no sense, or is no text.
            return None if watch.late(due, self._clock.boot(), self._limits) else "nothing"
        return office or "held"

    async def _ask(self, address: network.Address, label: str, method: str, args: bytes, seconds: float = 0.0) -> bytes:
        answer = await self._wire.request(
            address,
            label=label,
            domain=grammar.DEFAULT_DOMAIN,
            method=method,
            args=args,
            timeout=seconds or self._limits.timeout_seconds,
        )
        assert isinstance(answer, bytes)  # Else comes only to those who elect.
        return answer

    async def _accuse(self, beat: Beat, why: str) -> None:
        """Depose, with the agreement of min(2, live registries); else look at it anew."""
        facts = {"service": beat.label, "group": beat.group, "epoch": beat.epoch, "node": beat.address.incarnation}
        counted = self._round
        if not await self._agreed(beat):
            log.warning("suspect, and another registry does not agree", why=why, **facts)
            self._records.pop(beat, None)
            return
        if counted != self._round:
            return
        try:
            await election.depose(self._session, beat.label, beat.group, beat.epoch)
        except errors.CoordinationConflict:
            return  # Somebody was faster.
        except errors.CoordinationError as error:
            log.warning("suspect, and coordination is out of reach", why=str(error), **facts)
            return
        log.warning("deposed", why=why, **facts)

    async def _agreed(self, beat: Beat) -> bool:
        others = [each for each in self._registries() if each.incarnation != beat.address.incarnation and self._wire.knows(each)]
        if not others:
            return True
        asking = [asyncio.create_task(self._seconds(each, beat)) for each in others]
        try:
            for answer in asyncio.as_completed(asking):
                if await answer:
                    return True
            return False
        finally:
            for task in asking:
                task.cancel()

    async def _seconds(self, registry: network.Address, beat: Beat) -> bool:
        args = _pack({"label": beat.label, "group": beat.group, "epoch": beat.epoch})
        try:
            return _agreed.decode(await self._ask(registry, protocol.REGISTRY, "second", args, 2 * self._limits.timeout_seconds))
        except (errors.CallboardError, ValueError):  # What makes no sense, or is no text.
            return False

    def _registries(self) -> list[network.Address]:
        """Return the other registries whose sessions live."""
        try:
            found = self._book.recipients(model.Target("role", protocol.REGISTRY))
        except errors.UnknownName:
            return []
        return [each for each in found if each.incarnation != self._wire.identity.incarnation]

    def _start_again(self, why: str) -> None:
        log.warning("all counts of pings start again", why=why)
        self._round += 1
        self._records = {}

    def _tell(self) -> None:
        enough = self._limits.misses
        silent = frozenset(beat.address.incarnation for beat, record in self._records.items() if record.misses >= enough)
        if silent != self._silent:
            self._silent = silent
            self._silenced(silent)

    def facts(self) -> Mapping[str, int]:
        """Return how many are looked after."""
        return {"pinged": len(self._records), "silent": len(self._silent)}
