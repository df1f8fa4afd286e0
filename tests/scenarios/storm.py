"""What goes wrong in a simulation, by seed: one kind of fault alone, two, or everything with two above all others.

`course` knows how each goes on, `aim` whom it hits. Runs on the director's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from callboard.coordination import election
from callboard.testing import simnet
from tests.scenarios import aim, course, nodes
from tests.scenarios import stage as stages

PAUSES = (0.3, 0.8)
"""Between two faults of one seed, on the average."""


class Storm:
    """The faults of one seed."""

    def __init__(self, stage: stages.Stage, town: dict[str, nodes.SimNode], course: course.Course) -> None:
        self._stage = stage
        self._town = town
        self._course = course
        self._aim = aim.Aim(stage, town)
        self._chance = stage.chance
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

    # Single faults. Each returns at once.

    def kill(self) -> None:
        if (node := self._aim.victim()) is not None:
            self._course.say(f"kill {node.place.machine}")
            node.kill(silent=False)
            self._course.spawn(self._course.agent(node))
            self._course.spawn(self._course.again(node, self._chance.uniform(0.3, 3.0)))

    def lose_machine(self) -> None:
        if (node := self._aim.victim()) is not None:
            self._course.say(f"lose {node.place.machine}")
            node.kill(silent=True)
            self._course.spawn(self._course.again(node, self._chance.uniform(1.0, 5.0)))

    def freeze(self) -> None:
        if (node := self._aim.victim()) is not None:
            self._course.spawn(self._course.frozen(node, self._chance.uniform(0.1, 6.0), beating=False))

    def hang_loop(self) -> None:
        """As a freeze, but a thread of the process keeps its session alive."""
        if (node := self._aim.victim()) is not None:
            self._course.spawn(self._course.frozen(node, self._chance.uniform(0.5, 8.0), beating=True))

    def freeze_registries(self) -> None:
        seconds = self._chance.uniform(0.5, 5.0)
        for node in list(self._town.values()):
            if node.place.role == "registry" and course.usable(node) and self._chance.random() < 0.8:
                self._course.spawn(self._course.frozen(node, seconds + self._chance.uniform(0, 0.01), beating=True))

    def registries_stutter(self) -> None:
        """The registries run in bursts for some seconds, as on a machine that has no time for them: they ask, and do not read the
        answers before their timers have rung."""
        registries = [node for node in self._town.values() if node.place.role == "registry" and course.usable(node)]
        period, draw = self._stage.pace.patrol, self._chance.uniform
        bursts = [
            (period + draw(0.05, 0.5), draw(0.0001, 0.0003)),
            (2 * period + draw(0.05, 0.2), period + draw(0.0001, 0.0003)),
            (2 * period + draw(0.05, 0.2), 0.0),
        ]
        for node in registries:
            self._course.spawn(self._course.stuttering(node, bursts))

    def hang_methods(self) -> None:
        if (node := self._aim.victim()) is not None:
            self._course.spawn(self._course.hung(node, self._chance.uniform(0.5, 4.0)))

    def part_nodes(self) -> None:
        some = self._aim.some()
        rest = [each for each in self._town if each not in some]
        self._course.spawn(self._course.apart(some, rest))

    def part_one_way(self) -> None:
        some = self._aim.some()
        rest = [each for each in self._town if each not in some]
        self._course.spawn(self._course.apart(*self._chance.sample([some, rest], 2), both_ways=False))

    def cut_coordination(self) -> None:
        self._course.spawn(self._course.apart(self._aim.some(), [simnet.COORDINATION]))

    def isolate_holder(self) -> None:
        """Cut a holder from the coordination, and from nobody else: it must stop by its own clock."""
        if holders := self._aim.holders():
            self._course.spawn(
                self._course.apart([self._chance.choice(holders).place.machine], [simnet.COORDINATION], (2.5, 6.0))
            )

    def coordination_away(self) -> None:
        self._course.spawn(self._course.away(self._chance.uniform(0.5, 6.0)))

    def reset_links(self) -> None:
        self._course.say("reset links")
        machines = list(self._town)
        for _ in range(30):
            one, other = self._chance.sample(machines, 2)
            self._stage.fabric.reset(one, other)

    def order_deposition(self) -> None:
        """Somebody deposes a holder in full health, wrongly: everything must go on well all the same."""
        offices = self._aim.offices()
        deposers = [node for node in self._town.values() if course.usable(node)]
        if offices and len(deposers) > 1:
            (label, group), epoch, session = self._chance.choice(offices)
            self._course.say(f"depose {label}.{group} epoch {epoch}")
            self._stage.ordered.add(epoch)
            holder = next((each for each in self._town.values() if each.session_name == session), None)
            if holder is not None and self._chance.random() < 0.6:  # It does not even hear of it.
                self._course.spawn(self._course.apart([holder.place.machine], [simnet.COORDINATION]))
            node = self._chance.choice([each for each in deposers if each is not holder])
            node.loop.create_task(_depose(node, label, group, epoch))


async def _depose(node: nodes.SimNode, label: str, group: str, epoch: int) -> None:
    with contextlib.suppress(Exception):
        await election.depose(node.session, label, group, epoch)
