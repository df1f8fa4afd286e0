"""How a fault begins, goes on and ends: what is done to processes, links and the coordination, from outside of all nodes.

Everything ends by itself or with `Course.heal`. `storm` decides what is done to whom. Runs on the director's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from callboard.testing import simnet, virtual
from tests.scenarios import nodes
from tests.scenarios import stage as stages


class Course:
    """What goes on at a time. `restart` begins a new node on a machine."""

    def __init__(self, stage: stages.Stage, town: dict[str, nodes.SimNode], restart: Callable[[str], None]) -> None:
        self._stage = stage
        self._town = town
        self._restart = restart
        self._chance = stage.chance
        self._tasks: list[asyncio.Task[None]] = []
        self._healing = asyncio.Event()
        self.log: list[str] = []
        """What was done, and when."""

    async def heal(self) -> None:
        """End everything, and wait until all machines run a node again."""
        self.say("heal")
        self._healing.set()
        await asyncio.gather(*self._tasks)
        self._stage.fabric.heal()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something go on, until it ends or all is healed."""
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    def say(self, what: str) -> None:
        self.log.append(f"{self._stage.now:8.3f}  {what}")

    async def pause(self, seconds: float) -> None:
        """Wait, but not for longer than until all is healed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._healing.wait()

    async def agent(self, node: nodes.SimNode) -> None:
        """The machine's agent sees that a process has died, and says so in coordination as soon as it can."""
        await self.pause(self._chance.uniform(0.005, 0.1))
        machine = node.place.machine
        if (door := self._stage.doors.get(machine)) is not None and door.incarnation == node.incarnation:
            del self._stage.doors[machine]
        while node.session_name in self._stage.site.names:
            if self._stage.site.serving and not self._stage.fabric.parted(machine, simnet.COORDINATION):
                self._stage.site.end(node.session_name)
            await asyncio.sleep(0.5)

    async def again(self, node: nodes.SimNode, seconds: float) -> None:
        await self.pause(seconds)
        self.say(f"restart {node.place.machine}")
        self._restart(node.place.machine)

    async def frozen(self, node: nodes.SimNode, seconds: float, *, beating: bool, timers_first: bool | None = None) -> None:
        self.say(f"{'hang' if beating else 'freeze'} {node.place.machine} for {seconds:.3f}")
        self._stage.disturb(node.incarnation, 1)
        node.loop.freeze()
        until = self._stage.now + seconds
        while (left := until - self._stage.now) > 0 and not self._healing.is_set() and not node.loop.dead:
            if beating and not self._stage.fabric.parted(node.place.machine, simnet.COORDINATION):
                self._stage.site.beat_for(node.session_name)
            await self.pause(min(left, 0.5))
        self.say(f"thaw {node.place.machine}")
        timers_first = self._chance.random() < 0.5 if timers_first is None else timers_first
        node.loop.thaw(_timers_first if timers_first else _messages_first)
        self._stage.disturb(node.incarnation, -1)

    async def stuttering(self, node: nodes.SimNode, bursts: list[tuple[float, float]]) -> None:
        for frozen_seconds, running_seconds in bursts:
            if usable(node):
                await self.frozen(node, frozen_seconds, beating=True, timers_first=True)
                await self.pause(running_seconds)

    async def hung(self, node: nodes.SimNode, seconds: float) -> None:
        self.say(f"methods of {node.place.machine} hang")
        self._stage.disturb(node.incarnation, 1)
        node.hung = True
        await self.pause(seconds)
        node.hung = False
        self._stage.disturb(node.incarnation, -1)

    async def apart(
        self, some: Iterable[str], others: Iterable[str], seconds: tuple[float, float] = (0.2, 6.0), *, both_ways: bool = True
    ) -> None:
        some, others = list(some), list(others)
        self.say(f"part {some if len(some) < len(others) else others} both={both_ways} {others[:1]}")
        involved = [self._town[each].incarnation for each in (*some, *others) if each in self._town]
        for each in involved:
            self._stage.disturb(each, 1)
        self._stage.fabric.part(some, others, both_ways=both_ways)
        await self.pause(self._chance.uniform(*seconds))
        self._stage.fabric.mend(some, others)
        for each in involved:
            self._stage.disturb(each, -1)

    async def away(self, seconds: float) -> None:
        if not self._stage.site.serving:
            return
        self.say("coordination away")
        involved = [node.incarnation for node in self._town.values()]
        for each in involved:
            self._stage.disturb(each, 1)
        self._stage.site.stop()
        await self.pause(seconds)
        self._stage.site.resume()
        self._stage.history.coordination_back.append(self._stage.now)
        for each in involved:
            self._stage.disturb(each, -1)


def usable(node: nodes.SimNode) -> bool:
    """Tell whether something can be done to a node: it has started, and it runs."""
    return node.started and node.loop.held is None


def _timers_first(held: list[virtual.Handle]) -> None:
    held.sort(key=lambda handle: handle.when() is None)


def _messages_first(held: list[virtual.Handle]) -> None:
    held.sort(key=lambda handle: handle.when() is not None)
