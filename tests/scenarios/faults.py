"""What goes wrong in a simulation: by seed, several things at a time, most of it to those who hold offices.

Everything that is begun here ends by itself or in `Storm.heal`. Runs on the director's loop, outside of all nodes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable

from callboard.coordination import election
from callboard.testing import simnet, virtual
from tests.scenarios import nodes
from tests.scenarios import stage as stages

PAUSES = (0.3, 0.8)
"""Between two faults of one seed, on the average."""


class Storm:
    """Faults, and how they end. `restart` begins a new node on a machine."""

    def __init__(self, stage: stages.Stage, town: dict[str, nodes.SimNode], restart: Callable[[str], None]) -> None:
        self._stage = stage
        self._town = town
        self._restart = restart
        self._chance = stage.chance
        self._tasks: set[asyncio.Task[None]] = set()
        self._healing = asyncio.Event()
        self._parted = 0
        self.log: list[str] = []
        self._faults: list[tuple[int, Callable[[], None]]] = [
            (16, self.kill),
            (6, self.lose_machine),
            (18, self.freeze),
            (10, self.hang_loop),
            (8, self.hang_methods),
            (5, self.freeze_registries),
            (8, self.registries_stutter),
            (8, self.part_nodes),
            (6, self.part_one_way),
            (10, self.cut_coordination),
            (10, self.isolate_holder),
            (4, self.coordination_away),
            (6, self.reset_links),
            (12, self.order_deposition),
        ]

    async def rage(self, seconds: float) -> None:
        """Let things go wrong for some time."""
        until = self._stage.now + seconds
        weights = self._theme()
        mean = self._chance.uniform(*PAUSES)
        while self._stage.now < until:
            self._chance.choices(self._faults, weights)[0][1]()
            await asyncio.sleep(self._chance.expovariate(1 / mean))

    def _theme(self) -> list[int]:
        """Return how likely each fault is in this seed: one kind alone, two, or two above all others."""
        kinds = range(len(self._faults))
        often = self._chance.sample(kinds, self._chance.choice((1, 2, 2, 2)))
        others = 0 if len(often) == 1 else self._chance.choice((0, 1, 1, 1))
        return [weight * (6 if kind in often else others) for kind, (weight, _) in zip(kinds, self._faults, strict=True)]

    async def heal(self) -> None:
        """End everything, and wait until all machines run a node again."""
        self._say("heal")
        self._healing.set()
        await asyncio.gather(*self._tasks)
        self._stage.fabric.heal()

    # Single faults. Each returns at once.

    def kill(self) -> None:
        if (node := self._victim()) is not None:
            self._say(f"kill {node.place.machine}")
            node.kill(silent=False)
            self._spawn(self._agent(node))
            self._spawn(self._again(node, self._chance.uniform(0.3, 3.0)))

    def lose_machine(self) -> None:
        if (node := self._victim()) is not None:
            self._say(f"lose {node.place.machine}")
            node.kill(silent=True)
            self._spawn(self._again(node, self._chance.uniform(1.0, 5.0)))

    def freeze(self) -> None:
        if (node := self._victim()) is not None:
            self._spawn(self._frozen(node, self._chance.uniform(0.1, 6.0), beating=False))

    def hang_loop(self) -> None:
        """As a freeze, but a thread of the process keeps its session alive."""
        if (node := self._victim()) is not None:
            self._spawn(self._frozen(node, self._chance.uniform(0.5, 8.0), beating=True))

    def freeze_registries(self) -> None:
        seconds = self._chance.uniform(0.5, 5.0)
        for node in list(self._town.values()):
            if node.place.role == "registry" and self._usable(node) and self._chance.random() < 0.8:
                self._spawn(self._frozen(node, seconds + self._chance.uniform(0, 0.01), beating=True))

    def registries_stutter(self) -> None:
        """The registries run in bursts for some seconds, as on a machine that has no time for them: they ask, and do not read the
        answers before their timers have rung."""
        registries = [node for node in self._town.values() if node.place.role == "registry" and self._usable(node)]
        period, draw = self._stage.pace.patrol, self._chance.uniform
        bursts = [
            (period + draw(0.05, 0.5), draw(0.0001, 0.0003)),
            (2 * period + draw(0.05, 0.2), period + draw(0.0001, 0.0003)),
            (2 * period + draw(0.05, 0.2), 0.0),
        ]
        for node in registries:
            self._spawn(self._stuttering(node, bursts))

    def hang_methods(self) -> None:
        if (node := self._victim()) is not None:
            self._spawn(self._hung(node, self._chance.uniform(0.5, 4.0)))

    def part_nodes(self) -> None:
        some = self._some()
        rest = [each for each in self._town if each not in some]
        self._spawn(self._apart(some, rest))

    def part_one_way(self) -> None:
        some = self._some()
        rest = [each for each in self._town if each not in some]
        self._spawn(self._apart(*self._chance.sample([some, rest], 2), both_ways=False))

    def cut_coordination(self) -> None:
        self._spawn(self._apart(self._some(), [simnet.COORDINATION]))

    def isolate_holder(self) -> None:
        """Cut a holder from the coordination, and from nobody else: it must stop by its own clock."""
        if holders := self._holders():
            self._spawn(self._apart([self._chance.choice(holders).place.machine], [simnet.COORDINATION], (2.5, 6.0)))

    def coordination_away(self) -> None:
        self._spawn(self._away(self._chance.uniform(0.5, 6.0)))

    def reset_links(self) -> None:
        self._say("reset links")
        machines = list(self._town)
        for _ in range(30):
            one, other = self._chance.sample(machines, 2)
            self._stage.fabric.reset(one, other)

    def order_deposition(self) -> None:
        """Somebody deposes a holder in full health, wrongly: everything must go on well all the same."""
        offices = self._offices()
        deposers = [node for node in self._town.values() if self._usable(node)]
        if offices and len(deposers) > 1:
            (label, group), epoch, session = self._chance.choice(offices)
            self._say(f"depose {label}.{group} epoch {epoch}")
            self._stage.ordered.add(epoch)
            holder = next((each for each in self._town.values() if each.session_name == session), None)
            if holder is not None and self._chance.random() < 0.6:  # It does not even hear of it.
                self._spawn(self._apart([holder.place.machine], [simnet.COORDINATION]))
            node = self._chance.choice([each for each in deposers if each is not holder])
            node.loop.create_task(_depose(node, label, group, epoch))

    # How they go on.

    async def _agent(self, node: nodes.SimNode) -> None:
        """The machine's agent sees that a process has died, and says so in coordination as soon as it can."""
        await self._pause(self._chance.uniform(0.005, 0.1))
        machine = node.place.machine
        if (door := self._stage.doors.get(machine)) is not None and door.incarnation == node.incarnation:
            del self._stage.doors[machine]
        while node.session_name in self._stage.site.names:
            if self._stage.site.serving and not self._stage.fabric.parted(machine, simnet.COORDINATION):
                self._stage.site.end(node.session_name)
            await asyncio.sleep(0.5)

    async def _again(self, node: nodes.SimNode, seconds: float) -> None:
        await self._pause(seconds)
        self._say(f"restart {node.place.machine}")
        self._restart(node.place.machine)

    async def _frozen(self, node: nodes.SimNode, seconds: float, *, beating: bool, timers_first: bool | None = None) -> None:
        self._say(f"{'hang' if beating else 'freeze'} {node.place.machine} for {seconds:.3f}")
        self._stage.disturb(node.incarnation, 1)
        node.loop.freeze()
        until = self._stage.now + seconds
        while (left := until - self._stage.now) > 0 and not self._healing.is_set() and not node.loop.dead:
            if beating and not self._stage.fabric.parted(node.place.machine, simnet.COORDINATION):
                self._stage.site.beat_for(node.session_name)
            await self._pause(min(left, 0.5))
        self._say(f"thaw {node.place.machine}")
        timers_first = self._chance.random() < 0.5 if timers_first is None else timers_first
        node.loop.thaw(_timers_first if timers_first else _messages_first)
        self._stage.disturb(node.incarnation, -1)

    async def _stuttering(self, node: nodes.SimNode, bursts: list[tuple[float, float]]) -> None:
        for frozen_seconds, running_seconds in bursts:
            if self._usable(node):
                await self._frozen(node, frozen_seconds, beating=True, timers_first=True)
                await self._pause(running_seconds)

    async def _hung(self, node: nodes.SimNode, seconds: float) -> None:
        self._say(f"methods of {node.place.machine} hang")
        self._stage.disturb(node.incarnation, 1)
        node.hung = True
        await self._pause(seconds)
        node.hung = False
        self._stage.disturb(node.incarnation, -1)

    async def _apart(
        self, some: Iterable[str], others: Iterable[str], seconds: tuple[float, float] = (0.2, 6.0), *, both_ways: bool = True
    ) -> None:
        some, others = list(some), list(others)
        self._say(f"part {some if len(some) < len(others) else others} both={both_ways} {others[:1]}")
        involved = [self._town[each].incarnation for each in (*some, *others) if each in self._town]
        for each in involved:
            self._stage.disturb(each, 1)
        self._stage.fabric.part(some, others, both_ways=both_ways)
        await self._pause(self._chance.uniform(*seconds))
        self._stage.fabric.mend(some, others)
        for each in involved:
            self._stage.disturb(each, -1)

    async def _away(self, seconds: float) -> None:
        if not self._stage.site.serving:
            return
        self._say("coordination away")
        involved = [node.incarnation for node in self._town.values()]
        for each in involved:
            self._stage.disturb(each, 1)
        self._stage.site.stop()
        await self._pause(seconds)
        self._stage.site.resume()
        self._stage.history.coordination_back.append(self._stage.now)
        for each in involved:
            self._stage.disturb(each, -1)

    # Choosing.

    def _victim(self) -> nodes.SimNode | None:
        draw = self._chance.random()
        usable = [node for node in self._town.values() if self._usable(node)]
        if draw < 0.55:
            usable = self._holders() or usable
        elif draw < 0.75:
            usable = [node for node in usable if node.place.role == "registry"] or usable
        return self._chance.choice(usable) if usable else None

    def _holders(self) -> list[nodes.SimNode]:
        """The nodes that hold offices, as far as the coordination knows, and can be hurt."""
        names = {holder for _, _, holder in self._offices()}
        return [node for node in self._town.values() if node.session_name in names and self._usable(node)]

    def _usable(self, node: nodes.SimNode) -> bool:
        return node.started and node.loop.held is None

    def _offices(self) -> list[tuple[tuple[str, str], int, str]]:
        """Seat, epoch and session of each office that is held."""
        found = []
        for path, entry in sorted(self._stage.site.entries.items()):
            if path.startswith(f"{election.ACTIVE}/"):
                label, _, group = entry.name.partition(".")
                found.append(((label, group), entry.number, entry.session or ""))
        return found

    def _some(self) -> list[str]:
        """A part of the town; half the time small and around a holder or a registry."""
        machines = list(self._town)
        if self._chance.random() < 0.5:
            return self._chance.sample(machines, self._chance.randint(2, len(machines) // 2))
        victim = self._victim()
        return sorted({*self._chance.sample(machines, 2), *([victim.place.machine] if victim else [])})

    # Time.

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._healing.wait()

    def _spawn(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)

    def _say(self, what: str) -> None:
        self.log.append(f"{self._stage.now:8.3f}  {what}")


def _timers_first(held: list[virtual.Handle]) -> None:
    held.sort(key=lambda handle: handle.when() is None)


def _messages_first(held: list[virtual.Handle]) -> None:
    held.sort(key=lambda handle: handle.when() is not None)


async def _depose(node: nodes.SimNode, label: str, group: str, epoch: int) -> None:
    with contextlib.suppress(Exception):
        await election.depose(node.session, label, group, epoch)
