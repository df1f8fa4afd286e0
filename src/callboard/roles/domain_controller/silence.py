"""Which servers are silent: a judgement of what was seen again and again. Pure; times are nanoseconds of CLOCK_BOOTTIME.

A node's claims may be ended by somebody who has never met it only when nobody can answer for it any more: the agents that list
it are gone from coordination, it is gone itself, and its claims have not been renewed. All of that must have been so for the
lease, on the observer's own clock, in one series of looks without a gap. A look that failed, or that came late, is a gap: the
store, coordination or the observer itself was held up, and what it did not see may be its own fault.

A node that no agent of the site lists is unknown, and never silent: it belongs to another site, or to a user's own program.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

NS: Final = 1_000_000_000


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How long is long."""

    lease_seconds: float
    gap_seconds: float = 2.5
    """Between the ends of two looks: when it took longer, the count starts again."""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What one look saw. It may have seen each part at any time between `began` and `ended`."""

    began: int
    ended: int
    living: Collection[str]
    """Nodes that have a session in coordination."""
    answered: Collection[str]
    """Nodes that an agent with a session lists."""
    listed: Collection[str]
    """Nodes that any agent lists."""
    renewed: Mapping[str, int]
    """When each node that has claims renewed them last, by the store."""


class Quiet(msgspec.Struct, frozen=True):
    """A node that has not been heard of: since when, and what its last renewal was."""

    since: int
    renewed_at: int


class Record(msgspec.Struct, frozen=True):
    """What the looks so far came to."""

    looked: int = 0
    """When the last one ended; 0: there is none."""
    quiet: Mapping[str, Quiet] = {}


def after(record: Record, look: Look, limits: Limits) -> Record:
    """Return the record with one more look in it."""
    gap = not record.looked or look.ended - record.looked > limits.gap_seconds * NS
    before: Mapping[str, Quiet] = {} if gap else record.quiet
    quiet = {}
    for node in look.listed:
        renewed_at = look.renewed.get(node)
        if renewed_at is None or node in look.living or node in look.answered:
            continue
        known = before.get(node)
        same = known is not None and known.renewed_at == renewed_at
        quiet[node] = known if known is not None and same else Quiet(look.ended, renewed_at)
    return Record(look.ended, quiet)


def silent(record: Record, look: Look, limits: Limits) -> Sequence[str]:
    """Return the nodes that were quiet for the lease when the record's last look, this one, began."""
    return sorted(node for node, quiet in record.quiet.items() if look.began - quiet.since >= limits.lease_seconds * NS)


def ripe_at(record: Record, limits: Limits) -> int | None:
    """Return when the first quiet node will have been so for the lease; None: there is none."""
    first = min((quiet.since for quiet in record.quiet.values()), default=None)
    return None if first is None else first + round(limits.lease_seconds * NS)
