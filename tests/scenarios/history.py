"""What happened in a simulation, and the rules that it must not have broken. Pure: the world writes down, `violations` judges.

All times are true seconds of the simulation, in the order of writing: what no process of the system itself can see.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import msgspec

Seat = tuple[str, str]
"""(label, group)."""


class Accepted(msgspec.Struct, frozen=True):
    """An instance let a request in, or its answer out."""

    at: float
    seat: Seat
    epoch: int
    meant: int
    """The epoch that the caller meant; 0: any."""
    incarnation: str


class Looked(msgspec.Struct, frozen=True):
    """A lookup was answered."""

    at: float
    name: str
    instances: tuple[str, ...]
    stale: bool
    asked_by: str


class Called(msgspec.Struct, frozen=True):
    """A call ended: with `code` "ok", or that of its error."""

    begun: float
    at: float
    name: str
    token: str
    code: str
    ran: str
    timeout: float
    disturbed: bool
    """The caller itself was frozen meanwhile: it may be late."""
    idempotent: bool


class Gathered(msgspec.Struct, frozen=True):
    """A broadcast ended."""

    at: float
    mode: str
    key: str
    recipients: tuple[str, ...]
    outcomes: tuple[tuple[str, str], ...]
    """(member, status)."""


class Deposed(msgspec.Struct, frozen=True):
    """An office was taken from its holder by a registry."""

    at: float
    seat: Seat
    epoch: int
    incarnation: str
    by: str
    well: bool
    """The holder had been in full health, and well connected, for some seconds."""


class Probed(msgspec.Struct, frozen=True):
    """A name was asked for after everything had healed."""

    at: float
    name: str
    asked_by: str
    code: str
    """"ok", or the error's."""


class History:
    """Filled by the world of one seed."""

    def __init__(self, dead_slack_seconds: float, call_slack_seconds: float = 0.25) -> None:
        """`dead_slack_seconds`: how long after its session has expired a dead instance may still be named."""
        self.dead_slack_seconds = dead_slack_seconds
        self.call_slack_seconds = call_slack_seconds
        self.accepted: list[Accepted] = []
        self.looked: list[Looked] = []
        self.called: list[Called] = []
        self.gathered: list[Gathered] = []
        self.deposed: list[Deposed] = []
        self.probed: list[Probed] = []
        self.granted: dict[str, float] = {}
        """Session seconds by incarnation."""
        self.died: dict[str, float] = {}
        self.coordination_back: list[float] = []
        """When the coordination served again after an outage: from then on, every session had its whole time anew."""
        self.ran: dict[str, list[str]] = defaultdict(list)
        """Who ran the method, for each call's token."""
        self.acted: dict[str, list[str]] = defaultdict(list)
        """Who acted, for each key of an elect."""
        self.complaints: list[str] = []

    def violations(self) -> list[str]:
        """Return every breach of the rules, as text."""
        found = list(self._epochs())
        found += self._late_answers()
        found += self._calls()
        found += self._broadcasts()
        found += [
            f"{each.at:.3f}: {each.by} deposed {each.seat} epoch {each.epoch}, held by {each.incarnation}, which was well"
            for each in self.deposed
            if each.well
        ]
        found += [
            f"{each.at:.3f}: {each.name} has no active instance for {each.asked_by} long after healing: {each.code}"
            for each in self.probed
            if each.code != "ok"
        ]
        found += [f"complaint: {each}" for each in self.complaints]
        return found

    def _epochs(self) -> Iterator[str]:
        """No request accepted under an epoch after one under a later epoch; one instance an epoch."""
        highest: dict[Seat, int] = {}
        highest_meant: dict[Seat, int] = {}
        holders: dict[tuple[Seat, int], str] = {}
        for each in self.accepted:
            if not each.epoch:
                continue
            if each.epoch < highest.get(each.seat, 0):
                yield f"{each.at:.3f}: {each.seat} accepted under {each.epoch} by {each.incarnation} after {highest[each.seat]}"
            if each.meant and each.meant < highest_meant.get(each.seat, 0):
                yield f"{each.at:.3f}: {each.seat} accepted one meant for {each.meant} after one for {highest_meant[each.seat]}"
            highest[each.seat] = max(each.epoch, highest.get(each.seat, 0))
            highest_meant[each.seat] = max(each.meant, highest_meant.get(each.seat, 0))
            if holders.setdefault((each.seat, each.epoch), each.incarnation) != each.incarnation:
                yield f"{each.at:.3f}: {each.seat} epoch {each.epoch} was served by two instances"

    def _late_answers(self) -> Iterator[str]:
        """No lookup returns an instance that has been dead for longer than the bound, outages of the coordination aside."""
        for each in self.looked:
            back = max((at for at in self.coordination_back if at <= each.at), default=0.0)
            for incarnation in each.instances:
                age = each.at - max(self.died.get(incarnation, each.at), back)
                if age > self.granted.get(incarnation, 0.0) + self.dead_slack_seconds and not each.stale:
                    yield f"{each.at:.3f}: {each.asked_by} was told {incarnation} for {each.name}, dead for {age:.3f} s"

    def _calls(self) -> Iterator[str]:
        """Every call ends in time; what surely did not run did not; what may run once runs once; what went well ran."""
        for each in self.called:
            runs = len(self.ran.get(each.token, ()))
            if each.at - each.begun > each.timeout + self.call_slack_seconds and not each.disturbed:
                yield f"{each.at:.3f}: a call of {each.name} took {each.at - each.begun:.3f} s, its bound was {each.timeout:g}"
            if each.ran == "no" and runs:
                yield f"{each.at:.3f}: a call of {each.name} ended {each.code} with ran=no, and it had run"
            if each.code == "ok" and not runs:
                yield f"{each.at:.3f}: a call of {each.name} ended well and had not run"
            if runs > 1 and not each.idempotent:
                yield f"{each.at:.3f}: a call of {each.name} that may run once ran {runs} times"

    def _broadcasts(self) -> Iterator[str]:
        """An outcome for each recipient, one for one; of an elect exactly one acts."""
        for each in self.gathered:
            if sorted(member for member, _ in each.outcomes) != sorted(each.recipients):
                yield f"{each.at:.3f}: {each.mode} {each.key}: the outcomes are not those of the recipients, one for one"
            if each.mode != "elect":
                continue
            statuses = [status for _, status in each.outcomes]
            actors = self.acted.get(each.key, [])
            if len(actors) > 1 or statuses.count("ok") > 1:
                yield f"{each.at:.3f}: elect {each.key}: {len(actors)} acted, {statuses.count('ok')} said so"
            if not actors and all(status in ("ok", "elsewhere") for status in statuses):
                yield f"{each.at:.3f}: elect {each.key}: all answered and nobody acted"
