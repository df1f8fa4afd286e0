"""Broken variants of the system, each with one rule removed: the simulation must find every one of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from callboard.coordination import election, standing
from callboard.roles import service
from callboard.roles.registry import watch


@contextlib.contextmanager
def no_epoch_check() -> Iterator[None]:
    """An instance accepts what was meant for another epoch than its own."""
    admit = service.Service.admit
    with mock.patch.object(service.Service, "admit", lambda self, domain, epoch: admit(self, domain, 0)):
        yield


@contextlib.contextmanager
def no_safe_until() -> Iterator[None]:
    """An instance goes on accepting until it is told that its office is lost."""
    with mock.patch.object(standing.Standing, "accepts", lambda self, now_boot_ns: self.epoch > 0):
        yield


@contextlib.contextmanager
def no_wait_after_depose() -> Iterator[None]:
    """A successor takes the office as soon as its holder was deposed."""
    vacant = election._vacant

    def at_once(seen: election.View, *rest: Any) -> election.Action:
        if seen.mark is not None:
            mark, number = seen.mark
            gone = election.Mark(mark.epoch, "gone", mark.granted_seconds)
            seen = election.View(seen.candidates, seen.active, (gone, number), seen.sessions)
        return vacant(seen, *rest)

    with mock.patch.object(election, "_vacant", at_once):
        yield


@contextlib.contextmanager
def late_registries_accuse() -> Iterator[None]:
    """A registry that was late with its own timers concludes from pings all the same."""
    with mock.patch.object(watch, "late", lambda due, now, limits: False):
        yield


VARIANTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    each.__name__: each for each in (no_epoch_check, no_safe_until, no_wait_after_depose, late_registries_accuse)
}
