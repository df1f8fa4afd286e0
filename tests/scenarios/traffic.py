"""What the callers of a simulation do, as applications would: calls, lookups, broadcasts; and what came of each, written down.

Some are stubborn: they keep an answer and use its address and epoch long after. Runs on the callers' own loops.
"""

from __future__ import annotations

import asyncio
import itertools

import msgspec

from callboard import errors
from callboard.names import model
from callboard.rpc import broadcast
from tests.scenarios import history, nodes
from tests.scenarios import stage as stages

CACHES_ASKED = 8
TIMEOUTS = (0.5, 1.5, 3.0)
PAUSES = (0.1, 0.4)
"""Between two doings of one caller, on the average."""
MODES: tuple[broadcast.Mode, ...] = ("all", "first", "elect", "elect")
_pack = msgspec.msgpack.Encoder().encode


class Traffic:
    """One caller's doings."""

    def __init__(self, node: nodes.SimNode, purpose: str) -> None:
        self._node = node
        self._stage = node.stage
        self._chance = node.stage.chance
        self._pause_seconds = self._chance.uniform(*PAUSES)
        self._tokens = (f"{purpose}-{node.incarnation[:12]}-{each}" for each in itertools.count())
        self._kept: list[tuple[str, model.Answer]] = []

    async def go_on(self) -> None:
        """Never ends; the end of the simulation ends it."""
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / self._pause_seconds))
            draw = self._chance.random()
            name = self._chance.choice(stages.NAMES)
            if draw < 0.45:
                await self.call(name, "charge" if self._chance.random() < 0.5 else "balance")
            elif draw < 0.6:
                await self.call("cache", "get")
            elif draw < 0.75:
                await self.look(self._chance.choice((*stages.NAMES, "cache")))
            elif draw < 0.92:
                await self.insist()
            else:
                await self.broadcast(self._chance.choice(MODES))

    async def call(self, name: str, method: str) -> None:
        token = next(self._tokens)
        timeout = self._chance.choice(TIMEOUTS)
        begun, code, ran = self._stage.now, "ok", ""
        try:
            await self._node.resolver.call(name, method, _pack({"token": token}), timeout=timeout)
        except errors.CallboardError as error:
            code, ran = error.code, error.data.get("ran", "missing")
        self._called(begun, name, token, code, ran, timeout, method != "charge")

    async def insist(self) -> None:
        """Use every answer that was kept, and keep one more."""
        name = self._chance.choice(stages.NAMES)
        answer = await self.look(name)
        if answer is not None and answer.epoch and (name, answer) not in self._kept:
            self._kept = [*self._kept[-5:], (name, answer)]
        await asyncio.gather(*(self._insist(*kept) for kept in self._kept))

    async def _insist(self, name: str, answer: model.Answer) -> None:
        """Call the very instance of an answer, under its epoch."""
        token = next(self._tokens)
        timeout = TIMEOUTS[0]
        begun, code, ran = self._stage.now, "ok", ""
        try:
            await self._node.peers.request(
                answer.instances[0],
                label=answer.label,
                domain=model.parse(name).domain,
                method="charge",
                args=_pack({"token": token}),
                epoch=answer.epoch,
                timeout=timeout,
            )
        except errors.CallboardError as error:
            code, ran = error.code, error.data.get("ran", "missing")
        self._called(begun, f"{name} epoch {answer.epoch}", token, code, ran, timeout, False)

    def _called(self, begun: float, name: str, token: str, code: str, ran: str, timeout: float, idempotent: bool) -> None:
        disturbed = not self._stage.calm_since(self._node.incarnation, begun)
        self._stage.history.called.append(
            history.Called(begun, self._stage.now, name, token, code, ran, timeout, disturbed, idempotent)
        )

    async def look(self, name: str) -> model.Answer | None:
        try:
            answer = await self._node.resolver.lookup(name, timeout=1.0)
        except errors.CallboardError:
            return None
        told = tuple(each.incarnation for each in answer.instances)
        self._stage.history.looked.append(history.Looked(self._stage.now, name, told, answer.stale, self._node.place.machine))
        return answer

    async def broadcast(self, mode: broadcast.Mode) -> None:
        """Ask all caches: those that the resolver finds, or some of all that ever lived."""
        key = next(self._tokens)
        args = _pack({"key": key})
        if self._chance.random() < 0.5:
            some = self._chance.sample(self._stage.caches, min(len(self._stage.caches), CACHES_ASKED))
            asked = [broadcast.Recipient(f"cache/{each.incarnation}", each, "cache") for each in some]
            outcomes = await broadcast.gather(self._node.peers, asked, "act", args, mode=mode, timeout=1.0, key=key)
            members = tuple(each.member for each in asked)
        else:
            try:
                outcomes = await self._node.resolver.broadcast("service:cache", "act", args, mode=mode, timeout=1.0)
            except errors.CallboardError:
                return
            members = tuple(dict.fromkeys(each.member for each in outcomes))
        told = tuple((each.member, each.status) for each in outcomes)
        self._stage.history.gathered.append(history.Gathered(self._stage.now, mode, key, members, told))

    async def probe(self, name: str) -> history.Probed:
        """Ask for a name when all is well again."""
        code = "ok"
        try:
            await self._node.resolver.call(name, "balance", _pack({"token": next(self._tokens)}), timeout=1.5)
        except errors.CallboardError as error:
            code = error.code
        return history.Probed(self._stage.now, name, self._node.place.machine, code)
