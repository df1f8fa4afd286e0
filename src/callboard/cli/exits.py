"""What the exit codes of `callboard` mean. The one table: the program uses it, the reference prints it.

An error's code leads to an exit code; an error whose own code is not listed has the one of the class above it.
"""

from __future__ import annotations

import enum
from typing import Final

from callboard import errors


class Exit(enum.IntEnum):
    """How a command ended."""

    OK = 0
    FAILED = 1
    INVALID = 2
    NOT_FOUND = 3
    REFUSED = 4
    UNAVAILABLE = 5
    STARTUP = 6
    UNFINISHED = 7
    INTERRUPTED = 130


MEANINGS: Final[dict[Exit, str]] = {
    Exit.OK: "done",
    Exit.FAILED: "the awaited job ended discarded or cancelled, the called service raised, or an error without a code of its own",
    Exit.INVALID: "what was given is wrong: an option, an argument, a name, a setting; nothing was changed",
    Exit.NOT_FOUND: "no such job, queue, node, server, key, name or method",
    Exit.REFUSED: "understood and refused: the job's state, its id, the key's scopes or the broker's rights do not allow it",
    Exit.UNAVAILABLE: "nobody answers: no gateway, no agent, no active instance, or no store or broker; trying again may help",
    Exit.STARTUP: "a deployment cannot start: the port, the data directory, the database or the app",
    Exit.UNFINISHED: "the time to wait is over: the job is not finished and goes on, or the call had no answer",
    Exit.INTERRUPTED: "interrupted with Ctrl-C",
}

OF_CODES: Final[dict[str, Exit]] = {
    errors.CallboardError.code: Exit.FAILED,
    errors.JobFailed.code: Exit.FAILED,
    errors.InvalidInput.code: Exit.INVALID,
    errors.UnknownKind.code: Exit.INVALID,
    errors.Unsupported.code: Exit.INVALID,
    errors.JobNotFound.code: Exit.NOT_FOUND,
    errors.NotFound.code: Exit.NOT_FOUND,
    errors.IdConflict.code: Exit.REFUSED,
    errors.IdExpired.code: Exit.REFUSED,
    errors.StateRefused.code: Exit.REFUSED,
    errors.ClaimLost.code: Exit.REFUSED,
    errors.DocumentConflict.code: Exit.REFUSED,
    errors.Unauthorized.code: Exit.REFUSED,
    errors.Forbidden.code: Exit.REFUSED,
    errors.Unreachable.code: Exit.UNAVAILABLE,
    errors.NotRunning.code: Exit.UNAVAILABLE,
    errors.StoreUnavailable.code: Exit.UNAVAILABLE,
    errors.StoreFull.code: Exit.UNAVAILABLE,
    errors.BrokerError.code: Exit.UNAVAILABLE,
    errors.BrokerRefused.code: Exit.REFUSED,
    errors.StartupError.code: Exit.STARTUP,
    errors.StoreError.code: Exit.STARTUP,
    errors.WaitTimeout.code: Exit.UNFINISHED,
    errors.CallError.code: Exit.FAILED,
    errors.UnknownName.code: Exit.NOT_FOUND,
    errors.UnknownMethod.code: Exit.NOT_FOUND,
    errors.DomainNotServed.code: Exit.NOT_FOUND,
    errors.InterfaceConflict.code: Exit.REFUSED,
    errors.NotActive.code: Exit.UNAVAILABLE,
    errors.WrongEpoch.code: Exit.UNAVAILABLE,
    errors.LeaseUnconfirmed.code: Exit.UNAVAILABLE,
    errors.ConnectionLost.code: Exit.UNAVAILABLE,
    errors.Overloaded.code: Exit.UNAVAILABLE,
    errors.DeadlineExceeded.code: Exit.UNFINISHED,
    errors.WireRefused.code: Exit.UNAVAILABLE,
    errors.CoordinationError.code: Exit.UNAVAILABLE,
}


def of(error: errors.CallboardError) -> Exit:
    """Return the exit code for an error."""
    for above in type(error).__mro__:
        found = OF_CODES.get(getattr(above, "code", ""))
        if found is not None:
            return found
    return Exit.FAILED
