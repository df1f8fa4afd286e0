"""A simulated town of fifty nodes: it is built, called, broken and healed by seed, and its history is judged.

`play(seed)` is everything; a seed gives the same history each time in a process with the same PYTHONHASHSEED, see `player`.
"""

from __future__ import annotations

import asyncio
import hashlib
import random

import msgspec

from tests.scenarios import course, history, nodes, storm, traffic
from tests.scenarios import stage as stages

REGISTRIES = 3
CANDIDATES = 5
"""For each group's office."""
CACHES = 8
NODES = 50
CALLERS = 8
"""Nodes that call; the others only are there."""
PATIENT_SHARE = 0.25
"""Of the seeds: they go on for the whole recovery time, in which nothing may break any more."""


class Played(msgspec.Struct, frozen=True):
    """What came of one seed."""

    seed: int
    violations: list[str]
    digest: str
    """Of the whole history: equal for a replay."""
    steps: int
    counts: dict[str, int]
    faults: list[str]


def places() -> list[stages.Place]:
    """Return what runs where."""
    made = [stages.Place(f"r{each}", "registry") for each in range(REGISTRIES)]
    for group in stages.GROUPS:
        made += [stages.Place(f"{group[0]}{each}", "service", group, order=each) for each in range(CANDIDATES)]
    made += [stages.Place(f"c{each}", "service", cache=True) for each in range(CACHES)]
    made += [stages.Place(f"x{each}", "caller", calls=each < CALLERS) for each in range(NODES - len(made))]
    return made


class World:
    """One seed's town, and what is done to it."""

    def __init__(self, seed: int, pace: stages.Pace) -> None:
        self.stage = stages.Stage(seed, pace)
        self.director = self.stage.timeline.loop()
        self.town: dict[str, nodes.SimNode] = {}
        """The node that runs on each machine now, or ran there last."""
        self.everybody: list[nodes.SimNode] = []
        self.course = course.Course(self.stage, self.town, lambda machine: self._begin(self.town[machine].place))

    async def play(self) -> None:
        pace = self.stage.pace
        for place in places():
            self._begin(place)
        await asyncio.sleep(pace.calm)
        await storm.Storm(self.stage, self.town, self.course).rage(pace.storm)
        await self.course.heal()
        await self._recover()
        await asyncio.gather(*(self._probe(node, name) for node in self._callers() for name in stages.NAMES))

    async def _recover(self) -> None:
        """Give it the time it may take; most seeds go on as soon as every name is answered, to be cheap."""
        until = self.stage.now + self.stage.pace.recovery
        patient = self.stage.chance.random() < PATIENT_SHARE
        while (left := until - self.stage.now) > 0:
            await asyncio.sleep(left if patient else min(left, 1.0))
            some = self._callers()[:2]
            if not patient and all(await asyncio.gather(*(self._answered(node, name) for node in some for name in stages.NAMES))):
                return

    def _callers(self) -> list[nodes.SimNode]:
        return [node for node in self.town.values() if node.place.calls]

    async def _answered(self, node: nodes.SimNode, name: str) -> bool:
        probed: list[history.Probed] = []
        await self._probe(node, name, probed)
        return probed[0].code == "ok"

    def _begin(self, place: stages.Place) -> None:
        node = nodes.SimNode(self.stage, place)
        self.town[place.machine] = node
        self.everybody.append(node)
        node.loop.create_task(_live(node, self.stage.chance.uniform(0, 0.1)))

    async def _probe(self, node: nodes.SimNode, name: str, into: list[history.Probed] | None = None) -> None:
        """Let a node ask for a name, on its own loop."""
        done = asyncio.Event()

        async def ask() -> None:
            probed = await traffic.Traffic(node, f"probe-{self.stage.now}-{name}").probe(name)
            (self.stage.history.probed if into is None else into).append(probed)
            done.set()

        node.loop.create_task(ask())
        await done.wait()

    def complaints(self) -> list[str]:
        found = []
        for node in self.everybody:
            for each in node.loop.complaints:
                found.append(f"{node.place.machine}: {each.get('message')}: {each.get('exception')!r}")
        return found + [f"director: {each.get('message')}: {each.get('exception')!r}" for each in self.director.complaints]


async def _live(node: nodes.SimNode, delay_seconds: float) -> None:
    await asyncio.sleep(delay_seconds)
    await node.start()
    if node.place.calls:
        await traffic.Traffic(node, "call").go_on()


def play(seed: int, pace: stages.Pace | None = None) -> Played:
    """Play one seed, and judge what happened."""
    random.seed(seed)
    world = World(seed, pace or stages.Pace())
    timeline, book = world.stage.timeline, world.stage.history
    try:
        timeline.run(world.director, world.play(), until=300.0)
    finally:
        steps = timeline.steps
        book.complaints += world.complaints()
        timeline.close()
    return Played(seed, book.violations(), _digest(book), steps, _counts(book), world.course.log)


def _digest(book: history.History) -> str:
    told = [book.accepted, book.looked, book.called, book.gathered, book.deposed, book.probed, book.died]
    return hashlib.blake2b(msgspec.json.encode(told), digest_size=8).hexdigest()


def _counts(book: history.History) -> dict[str, int]:
    return {
        "accepted": len(book.accepted),
        "epochs": len({(each.seat, each.epoch) for each in book.accepted}),
        "calls": len(book.called),
        "calls ok": sum(each.code == "ok" for each in book.called),
        "lookups": len(book.looked),
        "broadcasts": len(book.gathered),
        "depositions": len(book.deposed),
        "deaths": len(book.died),
    }
