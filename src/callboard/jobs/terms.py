"""Terms: numbers of offices, kept in the job store, that guard what an office writes there.

The term of a scope is a document of the root domain, and its number is that document's version. Taking office grows it by
compare-and-set; every unit that the office writes carries its guard. Whoever was frozen, or cut off, or still believes in an
office that another one has taken, writes nothing: its guard names a number that is over.
"""

from __future__ import annotations

from typing import Final

import msgspec

from callboard import errors
from callboard.jobs import engine, queue
from callboard.kit import grammar

FOLDER: Final = "terms/"
"""Prefix of the documents of terms."""


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """What a term's document says, for people: who has taken the office, and when."""

    incarnation: str
    epoch: int
    """Under which coordination knows the office."""
    server: str = ""
    site: str = ""
    at: int
    """Microseconds UTC."""


class Term(msgspec.Struct, frozen=True):
    """An office that was taken. It is over once another one takes it."""

    scope: str
    number: int

    @property
    def guards(self) -> engine.Unit:
        """What every unit of the office begins with."""
        return (engine.Require(grammar.ROOT_DOMAIN, path(self.scope), self.number),)


def scope(site: str, group: str) -> str:
    """Return the scope of a group's office at a site. Sites that share a store have controllers of their own."""
    return f"{site}/{group}"


def path(scope: str) -> str:
    """Return where the term of a scope is kept."""
    return FOLDER + scope


async def take(store: queue.Queue, scope: str, holder: Holder) -> Term:
    """Take the office of a scope from whoever has it. Raises StoreError: then the term may have grown, and is nobody's."""
    body = msgspec.json.encode(holder)
    while True:
        found = await store.document(grammar.ROOT_DOMAIN, path(scope))
        try:
            number = await store.put_document(grammar.ROOT_DOMAIN, path(scope), found.version, body)
        except errors.DocumentConflict:
            continue  # Another one was faster: it is read, and superseded.
        return Term(scope, number)
