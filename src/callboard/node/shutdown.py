"""Stopping what serves a data directory, from outside: its agent, or the nodes that a dead agent left. Called by commands."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from callboard import errors
from callboard.node import children, layout, processes


class Stopped(msgspec.Struct, frozen=True):
    """What was stopped: whether an agent was, how many nodes without an agent, and how many processes had to be killed."""

    agent: bool
    orphans: int
    killed: int


def stop(directory: Path, grace_seconds: float) -> Stopped:
    """Stop all that an agent started in this data directory; return when none of it runs. Blocks.

    Running handlers get the grace time of the settings, but not more than `grace_seconds`; what then still runs is told to end
    and handed back. Only a node that does not manage that is killed.
    Users' own processes that use the store are left alone. Raises NotRunning.
    """
    place = layout.Layout(directory)
    found = agent(place)
    killed = 0
    if found is not None:
        killed += _end_agent(found, grace_seconds)
        os.close(found)
    orphans = _orphans(place)
    if found is None and not orphans:
        raise errors.NotRunning(f"nothing runs for {directory}: start it with 'callboard up --data {directory}'")
    return Stopped(found is not None, len(orphans), killed + _end_orphans(place, orphans, grace_seconds))


def agent(place: layout.Layout) -> int | None:
    """Return a pidfd of the agent of a data directory, None when there is none. To be closed."""
    if not (place.directory / "sessions").is_dir():
        return None
    for found in place.sessions().entries(layout.AGENT):
        entry = layout.entry(found)
        if entry is not None and found.session == layout.AGENT:
            return processes.opened(entry.process)
    return None


def _end_agent(pidfd: int, grace_seconds: float) -> int:
    """The second signal tells the agent, and by it the nodes, that the grace time is over."""
    for seconds in (grace_seconds, children.HURRY_SECONDS + children.STOP_SECONDS):
        processes.send(pidfd, signal.SIGTERM)
        if processes.ended(pidfd, seconds):
            return 0
    processes.send(pidfd, signal.SIGKILL)
    processes.ended(pidfd, children.STOP_SECONDS)
    return 1


def _orphans(place: layout.Layout) -> dict[str, int]:
    """Return pidfds of the nodes that live and have a record, by incarnation."""
    if not (place.directory / "sessions").is_dir():
        return {}
    found: dict[str, int] = {}
    for put in place.sessions().entries(layout.NODES):
        entry = layout.entry(put)
        if entry is not None and entry.incarnation is not None and place.record(entry.incarnation).exists():
            pidfd = processes.opened(entry.process)
            if pidfd is not None:
                found[entry.incarnation] = pidfd
    return found


def _end_orphans(place: layout.Layout, orphans: dict[str, int], grace_seconds: float) -> int:
    """The record of a killed one stays: the next agent ends its claims by it."""
    for seconds in (grace_seconds, children.HURRY_SECONDS):
        for pidfd in orphans.values():
            processes.send(pidfd, signal.SIGTERM)
        _wait(orphans.values(), seconds)
    killed = 0
    for incarnation, pidfd in orphans.items():
        if processes.ended(pidfd):
            place.forget(incarnation)
        else:
            killed += 1
            processes.send(pidfd, signal.SIGKILL)
            processes.ended(pidfd, children.STOP_SECONDS)
        os.close(pidfd)
    return killed


def _wait(pidfds: Iterable[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for pidfd in pidfds:
        processes.ended(pidfd, deadline - time.monotonic())
