"""What a list of operations makes of a book of entries: pure, for engines that hold the entries themselves (memory, local)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from callboard import errors
from callboard.coordination import engine as seam


class Outcome(msgspec.Struct, frozen=True):
    """What is to be stored, all of it or nothing."""

    results: list[int]
    changed: dict[str, seam.Entry | None]
    """The new entry at each path that changes; None where one was removed."""
    number: int
    """The last number given."""


def apply(entries: Mapping[str, seam.Entry], operations: Sequence[seam.Operation], session: str, number: int) -> Outcome:
    """Work out the operations of `session`; `number` is the last one given. Raises CoordinationConflict: nothing is to change."""
    changed: dict[str, seam.Entry | None] = {}
    results = []
    for index, operation in enumerate(operations):
        path = operation.path
        entry = changed[path] if path in changed else entries.get(path)
        _guard(operation, entry, index)
        match operation:
            case seam.Create(body=body, lasting=lasting):
                number += 1
                changed[path] = entry = seam.Entry(path, body, number, None if lasting else session)
            case seam.Replace(body=body):
                changed[path] = entry = msgspec.structs.replace(entry, body=body)  # type: ignore[type-var]  # It is there.
            case seam.Remove():
                changed[path] = None
        results.append(entry.number if entry is not None else 0)
    return Outcome(results, changed, number)


def _guard(operation: seam.Operation, entry: seam.Entry | None, index: int) -> None:
    path = operation.path
    if isinstance(operation, seam.Create | seam.Absent):
        if entry is not None:
            raise conflict(path, index, f"is there already, with number {entry.number}")
    elif entry is None:
        raise conflict(path, index, "is gone")
    elif entry.number != operation.number:
        raise conflict(path, index, f"has number {entry.number}, not {operation.number}")
    elif isinstance(operation, seam.Replace) and operation.expected not in (None, entry.body):
        raise conflict(path, index, "has other content than expected")


def conflict(path: str, index: int, why: str) -> errors.CoordinationConflict:
    """The one text of a guard that failed."""
    return errors.CoordinationConflict(f"{path} {why}: read again and decide anew", path=path, index=index)
