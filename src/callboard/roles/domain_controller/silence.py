"""Which servers are silent: a judgement of what was seen again and again. Pure; times are nanoseconds of CLOCK_BOOTTIME.

A node's claims may be ended by somebody who has never met it only when nobody can answer for it any more: the agents that list
it are gone from coordination and so is it, as coordination says now; and its claims have not been renewed for the lease, on the
observer's own clock. The age of a renewal counts from the first look that saw it, whoever was in coordination then: what
coordination needs to find a server gone and the lease pass at the same time.

A gap is what may keep a node that lives from renewing. Looks that failed or came late are one: the store, coordination or the
observer itself was held up. So is a look at which somebody is overdue and nothing shows that the store takes writes: there are
stores that answer questions and take no renewals, from anybody. Ages outlast a gap, since a renewal that has not come has not
come; but nobody is silent until looks without a gap have lasted as long as a node needs to come back.

A node that no agent of the site lists is unknown, and never silent: it belongs to another site, or to a user's own program.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

NS: Final = 1_000_000_000


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How long is long. All in nanoseconds, but for the lease as it is set."""

    lease_seconds: float

    @property
    def lease(self) -> int:
        return round(self.lease_seconds * NS)

    @property
    def patience(self) -> int:
        """Between two looks that belong together, until a renewal is overdue, and from the end of a gap to a verdict: half the
        lease. A node renews once a second; one that was held up as long as nobody noticed is heard within the lease, one that
        begins again when an outage is over within half of it."""
        return self.lease // 2


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What one look at the store saw. It may have seen it at any time between `began` and `ended`."""

    began: int
    ended: int
    renewed: Mapping[str, int]
    """When each node that has claims renewed them last, by the store."""
    wrote: bool = False
    """Whether the store has taken a write of the observer's own meanwhile."""


class Presence(msgspec.Struct, frozen=True, kw_only=True):
    """Who is in coordination."""

    living: Collection[str] = frozenset()
    """Nodes that have a session."""
    answered: Collection[str] = frozenset()
    """Nodes that an agent with a session lists."""
    listed: Collection[str] = frozenset()
    """Nodes that any agent lists."""


class Quiet(msgspec.Struct, frozen=True):
    """A node's last renewal, and the end of the first look that saw it."""

    since: int
    renewed_at: int


class Record(msgspec.Struct, frozen=True):
    """What the looks so far came to."""

    looked: int = 0
    """When the last one began; 0: there is none, or it failed."""
    whole: int = 0
    """When the first one since the last gap ended."""
    quiet: Mapping[str, Quiet] = {}
    """Every node that has claims."""


def broken(record: Record) -> Record:
    """Return the record with a look in it that failed."""
    return Record(quiet=record.quiet)


def doubtful(record: Record, look: Look, limits: Limits) -> bool:
    """Tell whether a look needs a write beside it: somebody is overdue, and no renewal, claim or end of one has come to the
    store since the look before."""
    still = {node: quiet.renewed_at for node, quiet in record.quiet.items()} == look.renewed
    return still and any(look.began - quiet.since >= limits.patience for quiet in record.quiet.values())


def after(record: Record, look: Look, limits: Limits) -> Record:
    """Return the record with one more look in it."""
    late = not record.looked or look.ended - record.looked > limits.patience
    gap = late or (doubtful(record, look, limits) and not look.wrote)
    quiet = {}
    for node, renewed_at in look.renewed.items():
        known = record.quiet.get(node)
        same = known is not None and known.renewed_at == renewed_at
        quiet[node] = known if known is not None and same else Quiet(look.ended, renewed_at)
    return Record(look.began, look.ended if gap else record.whole, quiet)


def ripe(record: Record, limits: Limits) -> frozenset[str]:
    """Return the nodes that had not renewed for the lease when the record's last look began, and could have for half of it."""
    return frozenset(node for node, quiet in record.quiet.items() if record.looked >= _due(record, quiet, limits))


def silent(ripe: Collection[str], presence: Presence) -> Sequence[str]:
    """Return those of some nodes that nobody in coordination answers for."""
    return sorted(node for node in ripe if node in presence.listed and node not in {*presence.living, *presence.answered})


def ripe_at(record: Record, limits: Limits) -> int | None:
    """Return when the next node will not have renewed for the lease; None: there is none, or all have had their time."""
    coming = (_due(record, quiet, limits) for quiet in record.quiet.values())
    return min((at for at in coming if at > record.looked), default=None)


def _due(record: Record, quiet: Quiet, limits: Limits) -> int:
    return max(quiet.since + limits.lease, record.whole + limits.patience)
