"""Engines of coordination that are broken on purpose: each breaks one promise of the memory engine.

What they are for: to prove that the conformance suite would notice. Each class says what it does wrong; `ALL` lists them.
Never use one for anything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from callboard import errors
from callboard.coordination import election
from callboard.coordination import engine as seam
from callboard.coordination.engines import memory
from callboard.testing.conformance.coordination import memory_bench


class Wrapper:
    """Passes everything on to the session inside. Its subclasses do not, in one respect."""

    site: type[memory.Site] = memory.Site

    def __init__(self, inner: seam.Session) -> None:
        self.inner = inner

    async def apply(self, operations: Sequence[seam.Operation]) -> list[int]:
        return await self.inner.apply([self.change(each) for each in operations])

    def change(self, operation: seam.Operation) -> seam.Operation:
        """Return the operation that is applied instead."""
        return operation

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class SplitApply(Wrapper):
    """Applies operations one by one, and stops at the one that fails."""

    async def apply(self, operations: Sequence[seam.Operation]) -> list[int]:
        results: list[int] = []
        for index, each in enumerate(operations):
            try:
                results += await self.inner.apply([each])
            except errors.CoordinationConflict as error:
                error.data["index"] = index
                raise
        return results


class BlindCheck(Wrapper):
    """Checks that there is an entry, whatever its number."""

    async def apply(self, operations: Sequence[seam.Operation]) -> list[int]:
        changed = [await self._blind(each) if isinstance(each, seam.Check) else each for each in operations]
        return await self.inner.apply(changed)

    async def _blind(self, check: seam.Check) -> seam.Check:
        found = {each.path: each.number for each in await self.inner.entries(check.path.partition("/")[0])}
        return seam.Check(check.path, found.get(check.path, check.number))


class BlindReplace(Wrapper):
    """Writes over whatever content is there: no compare and set."""

    def change(self, operation: seam.Operation) -> seam.Operation:
        if isinstance(operation, seam.Replace):
            return seam.Replace(operation.path, operation.body, operation.number)
        return operation


class EverLasting(Wrapper):
    """Makes entries that outlive their session."""

    def change(self, operation: seam.Operation) -> seam.Operation:
        if isinstance(operation, seam.Create):
            return seam.Create(operation.path, operation.body, lasting=True)
        return operation


class Fleeting(Wrapper):
    """Makes no lasting entries: what should stay goes with the session."""

    def change(self, operation: seam.Operation) -> seam.Operation:
        return seam.Create(operation.path, operation.body) if isinstance(operation, seam.Create) else operation


class EdgeWatch(Wrapper):
    """Forgets its watches when it is out of reach: after reconnection nothing is told."""

    def watch(self, folder: str, changed: Callable[[], None]) -> Callable[[], None]:
        return self.inner.watch(folder, lambda: None if self._was_away() else changed())

    def __init__(self, inner: seam.Session) -> None:
        super().__init__(inner)
        self._away = False
        inner.follow(self._note)

    def _note(self, state: seam.State) -> None:
        self._away |= state is not seam.State.CONNECTED

    def _was_away(self) -> bool:
        return self._away


class DeafWatch(Wrapper):
    """Tells only of the first change."""

    def watch(self, folder: str, changed: Callable[[], None]) -> Callable[[], None]:
        told: list[bool] = []

        def once() -> None:
            if not told:
                told.append(True)
                changed()

        return self.inner.watch(folder, once)


class SilentLoss(Wrapper):
    """Never says LOST."""

    def follow(self, told: Callable[[seam.State], None]) -> Callable[[], None]:
        return self.inner.follow(lambda state: None if state is seam.State.LOST else told(state))


class AskedTime(Wrapper):
    """Reports the session time that was asked for, not the one granted, and wishes were generous."""

    @property
    def granted_seconds(self) -> float:
        return 100 * self.inner.granted_seconds


class Unbounded(Wrapper):
    """Sends whatever it is given, paths and sizes alike."""

    async def apply(self, operations: Sequence[seam.Operation]) -> list[int]:
        try:
            return await self.inner.apply(operations)
        except (errors.TooLarge, errors.InvalidName):
            return [0 for _ in operations]


class NoMark(Wrapper):
    """Loses the marks of depositions: a successor does not wait."""

    async def apply(self, operations: Sequence[seam.Operation]) -> list[int]:
        kept = [each for each in operations if not each.path.startswith(f"{election.DEPOSED}/")]
        return await self.inner.apply(kept)


class EagerEnd(Wrapper):
    """Answers before it has ended the other session."""

    async def end(self, name: str) -> None:
        asyncio.get_running_loop().call_later(0.05, lambda: asyncio.ensure_future(self.inner.end(name)))


class StuckNumber(Wrapper):
    """Gives the numbers of removed entries again."""

    class site(memory.Site):  # It stands for the attribute of this name.
        def apply(self, life: memory.Life, operations: Sequence[seam.Operation]) -> list[int]:
            self.number = max((each.number for each in self.entries.values()), default=0)
            return super().apply(life, operations)


class ForgottenNumber(Wrapper):
    """Begins to count anew when all sessions have ended."""

    class site(memory.Site):
        def end(self, name: str) -> None:
            super().end(name)
            if not self.names:
                self.number = 0


class TwoOfAName(Wrapper):
    """Lets a second session have the name of a live one, which is over then."""

    class site(memory.Site):
        def begin(self, name: str, granted_seconds: float, told: Callable[[Collection[str]], None]) -> memory.Life:
            self.end(name)
            return super().begin(name, granted_seconds, told)


class Immortal(Wrapper):
    """Never expires a session."""

    class site(memory.Site):
        def _ring(self, life: memory.Life) -> None:
            life.timer = None


class Orphans(Wrapper):
    """Leaves the entries of an ended session where they are."""

    class site(memory.Site):
        def end(self, name: str) -> None:
            kept = dict(self.entries)
            super().end(name)
            self.entries.update(kept)


ALL: Final[tuple[type[Wrapper], ...]] = (
    SplitApply,
    BlindCheck,
    BlindReplace,
    EverLasting,
    Fleeting,
    EdgeWatch,
    DeafWatch,
    SilentLoss,
    AskedTime,
    Unbounded,
    NoMark,
    EagerEnd,
    StuckNumber,
    ForgottenNumber,
    TwoOfAName,
    Immortal,
    Orphans,
)


def bench(kind: type[Wrapper], *, session_seconds: float = 0.6) -> memory_bench.MemoryBench:
    """Return a bench of a broken engine."""
    made = memory_bench.MemoryBench(session_seconds=session_seconds, site=kind.site(), wrap=kind)
    made.patience_seconds = 2 * session_seconds
    return made
