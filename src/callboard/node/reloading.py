"""Having the agent of a data directory start itself anew, from outside. Called by commands."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Final

import msgspec

from callboard import errors
from callboard.node import layout, processes, rebirth, shutdown

LOOK_SECONDS: Final = 0.05


def reload(directory: Path, seconds: float, *, renewed: bool) -> rebirth.Word:
    """Have the agent start itself anew; return what it says when its start is complete, or with `renewed` when every node that
    had to be is replaced. Blocks.

    Raises NotRunning; InvalidSetting when it refused, and goes on as it was; StartupError when it ended instead, or when nodes
    cannot be replaced; WaitTimeout after `seconds`: it goes on by itself.
    """
    place = layout.Layout(directory)
    found, before = shutdown.agent(place), word(place)
    if found is None or before is None:
        raise errors.NotRunning(f"no agent runs for {directory}: start it with 'callboard up --data {directory}'")
    try:
        processes.send(found, signal.SIGUSR2)
        return _awaited(place, found, before, time.monotonic() + seconds, renewed)
    finally:
        os.close(found)


def word(place: layout.Layout) -> rebirth.Word | None:
    """Return what the agent says, None when there is none."""
    for put in place.sessions().entries(layout.WORD):
        if put.session == layout.AGENT:
            return msgspec.json.decode(put.body, type=rebirth.Word)
    return None


def _awaited(place: layout.Layout, pidfd: int, before: rebirth.Word, deadline: float, renewed: bool) -> rebirth.Word:
    while time.monotonic() < deadline:
        said = word(place)
        if said is not None and said.start == before.start and said.refusals > before.refusals:
            raise errors.InvalidSetting(f"not reloaded, and nothing is changed: {said.why}")
        if said is not None and said.start != before.start and said.ready and not (renewed and said.renewing):
            if renewed and said.trouble:
                raise errors.StartupError(f"reloaded, but not all nodes are new: {said.trouble}")
            return said
        if processes.ended(pidfd, LOOK_SECONDS):
            raise errors.StartupError("the agent ended while it started anew: see its log; its nodes go on, start it again")
        time.sleep(LOOK_SECONDS)
    raise errors.WaitTimeout("the agent is not done with it yet, and goes on: see its log")
