"""An apply's operations as one compound request, and what its results mean. Pure: what must be read for it was read before.

The request is decided by ZooKeeper alone, in order. What is known here to be wrong is sent as a guard that fails, so that the
first one that failed is the first in the seam's order, whoever found it, and the answer is true at the moment of the
transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from callboard.coordination import engine as seam
from callboard.coordination.engines.zookeeper import layout
from callboard.ensembles import requests

SESSION: Final = -1
"""Stands for the guard of the session itself, where the index of an operation is expected."""
SEAL: Final = -2
"""Stands for a new seal: it exists already only if this very request was applied before."""

_NEVER: Final = "never"
"""A seal that never exists: its guard fails."""


class Known(msgspec.Struct, frozen=True):
    """What was read of an entry: it has the number that the operation names, and the content that it expects."""

    header: layout.Header
    version: int = requests.ANY
    """Of that content; `ANY` where none was expected."""


class Holder(msgspec.Struct, frozen=True):
    """The session for which things are written: its name, and the token of its present life."""

    name: str
    token: str


class Plan(msgspec.Struct, frozen=True):
    """Steps; for each of them the operation it belongs to; and the headers of the entries that operations create."""

    steps: list[requests.Step]
    owners: list[int]
    created: Mapping[int, layout.Header]

    @staticmethod
    def zxid(results: Sequence[requests.Result]) -> int:
        """Return the transaction in which it was applied; 0 where nothing was written."""
        return results[0].zxid

    @property
    def witness(self) -> str | None:
        """The token of one entry that it creates: tells whether it was applied, and when."""
        return next((header.token for header in self.created.values()), None)

    def failure(self, results: Sequence[requests.Result]) -> tuple[int, int] | None:
        """Return the first failure as (operation, error code), None when all was applied."""
        for owner, result in zip(self.owners, results, strict=True):
            if result.code not in (requests.OK, requests.SKIPPED):
                return owner, result.code
        return None


def created(operations: Sequence[seam.Operation], holder: Holder, token: Callable[[], str]) -> dict[int, layout.Header]:
    """Return the headers of the entries that operations create: the same ones however often the request is sent."""
    return {
        index: layout.Header(token(), "" if each.lasting else holder.name)
        for index, each in enumerate(operations)
        if isinstance(each, seam.Create)
    }


def numbers(operations: Sequence[seam.Operation], zxid: int) -> list[int]:
    """Return a number for each operation of an apply that was committed as transaction `zxid`."""
    return [zxid if isinstance(each, seam.Create) else 0 if isinstance(each, seam.Absent) else each.number for each in operations]


def make(
    where: layout.Layout,
    operations: Sequence[seam.Operation],
    holder: Holder,
    created: Mapping[int, layout.Header],
    known: Mapping[int, Known],
) -> Plan:
    """Return the request; `known` has what was found of the entries that operations name, where it is as they say."""
    own = where.seal(holder.token)
    # Written only where entries are created, because the answer tells the transaction, which becomes their number.
    steps = [(SESSION, requests.write(own, where.session(holder.name).encode()) if created else requests.exists(own))]
    for index, header in created.items():
        seal = requests.create(where.seal(header.token), operations[index].path.encode(), ephemeral=bool(header.session))
        steps.append((SEAL, seal))
    for index, operation in enumerate(operations):
        steps += [(index, step) for step in _steps(where, operation, created.get(index), known.get(index))]
    return Plan([step for _, step in steps], [owner for owner, _ in steps], created)


def _steps(
    where: layout.Layout, operation: seam.Operation, new: layout.Header | None, found: Known | None
) -> list[requests.Step]:
    path = where.entry(operation.path)
    if isinstance(operation, seam.Absent):  # ZooKeeper has no such guard. What can be made and unmade is not there.
        return [requests.create(path, b""), requests.delete(path)]
    if isinstance(operation, seam.Create):
        assert new is not None, "every creation has a header"
        return [requests.create(path, new.line() + operation.body, ephemeral=not operation.lasting)]
    if found is None:
        return [requests.exists(where.seal(_NEVER))]
    seal = where.seal(found.header.token)
    match operation:
        case seam.Check():
            return [requests.exists(seal)]
        case seam.Remove():
            return [requests.delete(seal), requests.delete(path)]
        case seam.Replace():
            folder = where.folder(operation.path.partition("/")[0])
            written = requests.write(path, found.header.line() + operation.body, found.version)
            return [requests.exists(seal), written, requests.write(folder, b"")]  # The folder: for those who watch it.
