"""Whether a call that went wrong is made again. Pure.

A call that surely did not begin is made again until its deadline, wherever the name is by then. One that may have begun is made
again only when its method is declared idempotent. What the method itself says is final.
"""

from __future__ import annotations

from callboard import errors

_PASSING = (
    errors.NotActive,
    errors.WrongEpoch,
    errors.LeaseUnconfirmed,
    errors.Overloaded,
    errors.ConnectionLost,
    errors.Unreachable,
    errors.WireRefused,
)
"""What another try, later or elsewhere, may mend."""
_MOVED = (errors.UnknownName, errors.DomainNotServed)
"""What a node says that is not, or no longer, whom the caller took it for."""
_HALFWAY = (errors.ConnectionLost, errors.WrongEpoch, errors.LeaseUnconfirmed, errors.NotActive)
"""How the way of a call breaks once the method may have begun."""

REFUSED = (errors.Overloaded, *_MOVED)
"""What is not asked for again and again: it does not pass by itself."""


def ran(error: errors.CallboardError) -> str:
    """Return `no`, `yes` or `unknown`: whether the method was begun. Where there was no connection, it was not."""
    default = "no" if isinstance(error, (errors.Unreachable, errors.WireRefused)) else "unknown"
    said: str = error.data.get("ran", default)
    return said


def again(error: errors.CallboardError, *, idempotent: bool) -> bool:
    """Tell whether the call is made again after what an instance, or the way to it, said."""
    if ran(error) == "no":
        return isinstance(error, _PASSING + _MOVED)
    return idempotent and isinstance(error, _HALFWAY)


def absent(error: errors.CallboardError) -> bool:
    """Tell whether nobody is at the address, or somebody else."""
    return isinstance(error, (errors.Unreachable, errors.WireRefused)) and ran(error) == "no"
