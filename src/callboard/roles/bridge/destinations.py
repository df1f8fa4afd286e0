"""Which destinations of a broker are consumed, and what each means: the domain and queue of its jobs, maybe their kind. Pure.

DESTINATION                         callboard.DOMAIN.QUEUE says both; another name means queue `default` of domain `main`
DESTINATION=DOMAIN/QUEUE            messages say their kind
DESTINATION=DOMAIN/QUEUE:KIND       every message is of this kind, its body the arguments
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from callboard import errors
from callboard.jobs import model
from callboard.kit import grammar

PREFIX: Final = "callboard."
"""What the names of destinations begin with that need no mapping."""
_name = re.compile(r"[^\s,*>?=]{1,256}")


class Destination(msgspec.Struct, frozen=True):
    """A queue of a broker, and what its messages become."""

    name: str
    domain: str
    queue: str
    kind: str | None = None
    """The kind of all its messages, where they do not say one."""


def named(domain: str, queue: str) -> Destination:
    """Return the destination that needs no mapping."""
    return Destination(f"{PREFIX}{domain}.{queue}", domain, queue)


def chosen(given: Iterable[str], takes_from: Iterable[tuple[str, str]]) -> tuple[Destination, ...]:
    """Return the destinations that were set, or those of the (domain, queue) pairs that a worker takes jobs from.

    Raises InvalidSetting.
    """
    found = tuple(parsed(each) for each in given) or tuple(named(domain, queue) for domain, queue in takes_from)
    for place, each in enumerate(found):
        if each.name in [before.name for before in found[:place]]:
            raise errors.InvalidSetting(f"bridge.destinations names {each.name} twice: a destination means one thing")
    return found


def parsed(text: str) -> Destination:
    """Read a destination as it is set. Raises InvalidSetting."""
    name, mapped, meaning = text.partition("=")
    name = name.strip().removeprefix("/queue/")
    if not _name.fullmatch(name):
        raise errors.InvalidSetting(f"bridge.destinations: {text!r:.80} names no queue: no blanks, commas or wildcards ({_FORM})")
    try:
        return _meaning(name, meaning.strip()) if mapped else _unmapped(name)
    except errors.InvalidName as error:
        raise errors.InvalidSetting(f"bridge.destinations: {text!r:.80}: {error} ({_FORM})") from None


_FORM: Final = "write DESTINATION=DOMAIN/QUEUE or DESTINATION=DOMAIN/QUEUE:KIND"


def _meaning(name: str, text: str) -> Destination:
    where, fixed, kind = text.partition(":")
    domain, _, queue = where.partition("/")
    return Destination(
        name,
        grammar.check_domain(domain),
        grammar.check_label(queue, "queue"),
        model.check_kind(kind) if fixed else None,
    )


def _unmapped(name: str) -> Destination:
    domain, dot, queue = name.removeprefix(PREFIX).rpartition(".")
    if name.startswith(PREFIX) and dot:
        return Destination(name, grammar.check_domain(domain), grammar.check_label(queue, "queue"))
    return Destination(name, grammar.DEFAULT_DOMAIN, model.DEFAULT_QUEUE)
