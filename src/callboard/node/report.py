"""What a starting node tells its agent, once, over a pipe: that it is ready, or in one line why it cannot start.

The node writes, the agent reads. An agent that died meanwhile misses it; nobody minds.
"""

from __future__ import annotations

import contextlib
import os

import msgspec

from callboard import errors

EXIT_RESTART = 75
"""Exit code of a node that asks to be started again (as `wants_restart` of its role said)."""
EXIT_IDLE = 76
"""Exit code of a node that has nothing to do here: a service node whose app has no services. It is not started again."""
EXIT_STARTUP = 78
"""Exit code of a node that could not start and said why."""
EXIT_BROKEN = 70
"""Exit code of a node that ended by an error nobody expected; its log has the traceback."""
GOOD_ENDS = frozenset({0, EXIT_RESTART, EXIT_IDLE})
"""Exit codes of nodes that ended by themselves, with everything they had started."""


class Report(msgspec.Struct, frozen=True):
    """Ready when `code` is empty, else a CallboardError's code and message."""

    code: str = ""
    message: str = ""
    new_key: str | None = None
    """The admin key, when it was made at this start."""
    idle: bool = False
    """There is nothing to do for a node of this kind: it ends, and so would others."""

    def error(self) -> errors.CallboardError:
        """Return the error that the node met."""
        for known in _below(errors.CallboardError):
            if known.code == self.code:
                return known(self.message)
        return errors.StartupError(self.message)


class Reporter:
    """The node's end of the pipe. Without a descriptor (a node started by hand) it says nothing."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        if descriptor is not None:
            os.set_inheritable(descriptor, False)

    def ready(self, new_key: str | None = None) -> None:
        self._say(Report(new_key=new_key))

    def idle(self) -> None:
        self._say(Report(idle=True))

    def failed(self, error: errors.CallboardError) -> None:
        self._say(Report(error.code, error.message))

    def _say(self, report: Report) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.write(self._descriptor, msgspec.json.encode(report))
                os.close(self._descriptor)
            self._descriptor = None


def read(data: bytes) -> Report | None:
    """Return what a node said; None when it ended without a word."""
    with contextlib.suppress(msgspec.MsgspecError):
        return msgspec.json.decode(data, type=Report)
    return None


def _below(root: type[errors.CallboardError]) -> list[type[errors.CallboardError]]:
    found = [root]
    for known in found:
        found += known.__subclasses__()
    return found
