"""Judges what happened: what was acknowledged, what handlers did, how jobs ended. Pure; `Deployment.verdict` feeds it.

A handler may run more than once: its process can be killed after its last line and before its result is stored. So a second
run is a fault only if the one before it was not cut off by a death, or ended in the store itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from typing import Literal

import msgspec

TERMINAL = frozenset({"completed", "discarded", "cancelled"})


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a handler: it began, or it came to its end, or it was told to end. `at` is CLOCK_BOOTTIME in nanoseconds."""

    what: Literal["began", "ended", "left"]
    id: str
    run: int
    fence: int
    pid: int
    """Of the node, also where a child process ran the handler."""
    at: int


class Final(msgspec.Struct, frozen=True, kw_only=True):
    """A job as the API tells of it at last."""

    id: str
    state: str
    run: int
    fence: int
    result_fence: int | None
    """The fence of the handler whose result was stored."""
    errors: Sequence[tuple[int, int]] = ()
    """(run, fence) of each attempt that failed."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Job ids (with a reason) for each fault. `repeated` is none: runs begun again because a killed process had them."""

    lost: list[str]
    """Acknowledged, and not there at last."""
    unfinished: list[str]
    duplicated: list[str]
    """Came to its end twice in one run, without a death between."""
    overlapped: list[str]
    """Began while an earlier claim of it was still being worked on by a process that lived."""
    regressed: list[str]
    """A later start had no higher fence, or a lower run: but for those of a process that was frozen just before it."""
    unearned: list[str]
    """Completed by a claim whose handler never came to its end, or with another claim's result."""
    repeated: list[str]

    @property
    def faults(self) -> dict[str, list[str]]:
        """What must be empty."""
        every = {name: getattr(self, name) for name in self.__struct_fields__ if name != "repeated"}
        return {name: found for name, found in every.items() if found}


def judge(acknowledged: Iterable[str], marks: Iterable[Mark], finals: Iterable[Final], killed: Collection[int]) -> Verdict:
    """Judge a history. `killed` are the processes that were killed, or frozen until they were taken for dead.

    What they had begun may begin again. A frozen one's handler may come to its end, or begin, when its job has long begun or
    ended elsewhere: no check comes so late that nothing can be frozen between it and what it is for.
    """
    told: dict[str, list[Mark]] = {}
    for mark in sorted(marks, key=lambda mark: mark.at):
        told.setdefault(mark.id, []).append(mark)
    last = {final.id: final for final in finals}
    wanted = list(dict.fromkeys(acknowledged))
    return Verdict(
        lost=[id for id in wanted if id not in last],
        unfinished=[f"{id}: {last[id].state}" for id in wanted if id in last and last[id].state not in TERMINAL],
        duplicated=[fault for id, lines in told.items() for fault in _duplicated(id, lines, killed)],
        overlapped=[fault for id, lines in told.items() for fault in _overlapped(id, lines, killed)],
        regressed=[fault for id, lines in told.items() for fault in _regressed(id, lines, killed)],
        unearned=[fault for final in last.values() for fault in _unearned(final, told.get(final.id, ()))],
        repeated=[id for id, lines in told.items() if len({line.fence for line in lines}) > 1],
    )


def _duplicated(id: str, lines: Sequence[Mark], killed: Collection[int]) -> Iterable[str]:
    ends = sorted((line for line in lines if line.what == "ended"), key=lambda line: line.fence)
    for before, after in itertools.pairwise(ends):
        if before.run == after.run and (before.fence == after.fence or before.pid not in killed):
            yield f"{id}: run {before.run} ended by fences {before.fence} and {after.fence}"


def _overlapped(id: str, lines: Sequence[Mark], killed: Collection[int]) -> Iterable[str]:
    open_: dict[int, Mark] = {}
    for line in lines:
        if line.what != "began":
            open_.pop(line.fence, None)
            continue
        for other in open_.values():
            if other.pid not in killed and not _belated(line, lines, killed):
                yield f"{id}: fence {line.fence} began while process {other.pid} worked under fence {other.fence}"
        open_[line.fence] = line


def _regressed(id: str, lines: Sequence[Mark], killed: Collection[int]) -> Iterable[str]:
    starts = [line for line in lines if line.what == "began" and not _belated(line, lines, killed)]
    for before, after in itertools.pairwise(starts):
        if after.fence <= before.fence or after.run < before.run:
            yield f"{id}: ({before.run}, {before.fence}) was followed by ({after.run}, {after.fence})"


def _belated(line: Mark, lines: Sequence[Mark], killed: Collection[int]) -> bool:
    """Whether a frozen process began what it had claimed when another process had begun it, too."""
    return line.pid in killed and any(
        each.what == "began" and each.at < line.at and each.fence > line.fence and each.pid != line.pid for each in lines
    )


def _unearned(final: Final, lines: Sequence[Mark]) -> Iterable[str]:
    if final.state != "completed":
        return
    if final.result_fence != final.fence:
        yield f"{final.id}: fence {final.fence} holds the result of fence {final.result_fence}"
    if not any(line.what == "ended" and (line.run, line.fence) == (final.run, final.fence) for line in lines):
        yield f"{final.id}: no handler ended under fence {final.fence}"
    if (final.run, final.fence) in final.errors:
        yield f"{final.id}: fence {final.fence} both failed and completed"
