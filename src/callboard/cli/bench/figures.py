"""What is said of figures from many rounds: the median, how far they spread, and ratios of pairs of the same round. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import msgspec


class Row(msgspec.Struct, frozen=True):
    """One line of the table: a figure of a product, its unit, how it stands beside what, and the goal for that."""

    product: str
    what: str
    unit: str
    values: list[float]
    beside: str = ""
    ratios: list[float] = []
    goal: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def told(self) -> dict[str, Any]:
        """Return all of it, for a file."""
        return {
            "what": self.what,
            "unit": self.unit,
            **spread(self.values),
            **({"beside": self.beside, "ratio": spread(self.ratios)} if self.ratios else {}),
            **({"goal": self.goal} if self.goal else {}),
            "rounds": [rounded(each) for each in self.values],
        }

    def cells(self) -> list[str]:
        """Return it for the terminal, in the order of COLUMNS."""
        ratio = f"{statistics.median(self.ratios):.2f} of {self.beside}" if self.ratios else ""
        between = f"{text(min(self.values))} to {text(max(self.values))}" if len(self.values) > 1 else ""
        return [self.product, self.what, f"{text(self.median)} {self.unit}", between, ratio, self.goal]


COLUMNS = ("product", "what", "median", "between", "ratio", "goal")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median, the least and the greatest."""
    return {
        "median": rounded(statistics.median(values)),
        "least": rounded(min(values)),
        "greatest": rounded(max(values)),
    }


def ratios(values: Sequence[float], to: Sequence[float]) -> list[float]:
    """Return the ratios of figures of the same rounds."""
    return [one / other for one, other in zip(values, to, strict=True) if other]


def rounded(value: float) -> float:
    """Return a figure with as many digits as mean something: three, or all before the point."""
    return float(round(value)) if abs(value) >= 100 else float(f"{value:.3g}")


def text(value: float) -> str:
    """Write a figure so."""
    return f"{rounded(value):,.15g}"


LIMITS = {
    "engine insert": "raw insert",
    "engine claim": "raw claim",
    "engine end": "raw end",
    "engine cycle": "raw cycle",
    "end to end": "raw cycle",
}
"""What stands beside what in a round."""
GOALS = {"zookeeper": {"end to end": "≥ 0.40"}}
"""What a product is to reach of its limit, where it is not ≥ 0.60 of everything."""


def of_rounds(product: str, rounds: Sequence[dict[str, float]], beside: Sequence[dict[str, float]] | None = None) -> list[Row]:
    """Return the rows of a product's rounds; `beside` are those of MariaDB in the same rounds, for a cluster of it.

    A figure that one round lacks is left out.
    """
    rows = []
    for what in [each for each in rounds[0] if all(each in round for round in rounds)]:
        values = [round[what] for round in rounds]
        if what == "certification failures":
            rows.append(Row(product, what, "% of commits", values, goal="< 1"))
        elif what == "end to end" and beside is not None:
            rows.append(Row(product, what, "jobs/s", values, "MariaDB", _to(values, beside, what), "≥ 0.50"))
        elif (limit := LIMITS.get(what)) and limit in rounds[0]:
            goal = GOALS.get(product, {}).get(what, "" if product in GOALS or beside is not None else "≥ 0.60")
            rows.append(Row(product, what, "jobs/s", values, limit, _to(values, rounds, limit), goal))
        else:
            rows.append(Row(product, what, "jobs/s", values))
    return rows


def of_messages(product: str, rounds: Sequence[dict[str, float]]) -> list[Row]:
    """Return the rows of rounds of messages; the bridge stands beside the faster of the bare consumers in each."""
    bare = [max(value for name, value in round.items() if name.startswith("raw")) for round in rounds]
    rows = []
    for what in rounds[0]:
        values = [round[what] for round in rounds]
        if what.startswith("raw"):
            rows.append(Row(product, what, "messages/s", values))
        else:
            rows.append(Row(product, what, "messages/s", values, "raw", ratios(values, bare), "≥ 0.70"))
    return rows


def _to(values: Sequence[float], rounds: Sequence[dict[str, float]], what: str) -> list[float]:
    return [value / round[what] for value, round in zip(values, rounds, strict=True)]
