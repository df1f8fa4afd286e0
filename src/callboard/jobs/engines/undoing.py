"""What of a unit must be undone, where a transaction holds several. Pure."""

from __future__ import annotations

import itertools
from typing import Final

from callboard.jobs import engine as seam

REFUSING: Final = frozenset({seam.Conflict, seam.Stale, seam.Changed, seam.Lost, seam.NotAllowed})
"""Results that refuse a unit."""
_NEVER_REFUSED: Final = frozenset({seam.Claim, seam.Renew, seam.Expire, seam.Promote, seam.Purge})


def guarded(unit: seam.Unit) -> bool:
    """Whether something of a unit may have to be undone. Not where only guards stand before what is never refused."""
    return any(type(op) not in _NEVER_REFUSED for op in itertools.dropwhile(_requires, unit))


def _requires(op: seam.Op) -> bool:
    return type(op) is seam.Require
