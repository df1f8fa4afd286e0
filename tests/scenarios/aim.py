"""Whom the faults of a simulation hit: by seed, and most of all those who hold offices, and registries."""

from __future__ import annotations

from callboard.coordination import election
from tests.scenarios import course, nodes
from tests.scenarios import stage as stages


class Aim:
    """Chooses among those that can be hurt now."""

    def __init__(self, stage: stages.Stage, town: dict[str, nodes.SimNode]) -> None:
        self._stage = stage
        self._town = town
        self._chance = stage.chance

    def victim(self) -> nodes.SimNode | None:
        draw = self._chance.random()
        usable = [node for node in self._town.values() if course.usable(node)]
        if draw < 0.55:
            usable = self.holders() or usable
        elif draw < 0.75:
            usable = [node for node in usable if node.place.role == "registry"] or usable
        return self._chance.choice(usable) if usable else None

    def holders(self) -> list[nodes.SimNode]:
        """The nodes that hold offices, as far as the coordination knows, and can be hurt."""
        names = {holder for _, _, holder in self.offices()}
        return [node for node in self._town.values() if node.session_name in names and course.usable(node)]

    def offices(self) -> list[tuple[tuple[str, str], int, str]]:
        """Seat, epoch and session of each office that is held."""
        found = []
        for path, entry in sorted(self._stage.site.entries.items()):
            if path.startswith(f"{election.ACTIVE}/"):
                label, _, group = entry.name.partition(".")
                found.append(((label, group), entry.number, entry.session or ""))
        return found

    def some(self) -> list[str]:
        """A part of the town; half the time small and around a holder or a registry."""
        machines = list(self._town)
        if self._chance.random() < 0.5:
            return self._chance.sample(machines, self._chance.randint(2, len(machines) // 2))
        victim = self.victim()
        return sorted({*self._chance.sample(machines, 2), *([victim.place.machine] if victim else [])})
