"""Engines that are broken on purpose: each wraps a sound one and breaks one promise, as real engines have broken them.

What they are for: to prove that the conformance suite would notice. Each class says what it does wrong; `ALL` lists them.
Never open one for anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from callboard.jobs import engine as seam
from callboard.jobs import model
from callboard.kit import clock

replace = msgspec.structs.replace


class Wrapper:
    """Passes everything on to the engine inside. Its subclasses do not, in one respect."""

    def __init__(self, inner: seam.Engine) -> None:
        self.inner = inner
        self.name = f"broken {inner.name}"
        self.abilities = inner.abilities

    def apply(self, units: Sequence[seam.Unit]) -> list[seam.UnitResult]:
        return self.inner.apply([tuple(map(self.change, unit)) for unit in units])

    def change(self, op: Any) -> seam.Op:
        """Return the operation that is applied instead of `op`."""
        changed: seam.Op = op
        return changed

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class UnfencedSettle(Wrapper):
    """Ends a running job for whoever asks, whatever claim it names."""

    def change(self, op: Any) -> seam.Op:
        if isinstance(op, seam.Settle | seam.Release):
            (job,) = self.inner.get([(op.domain, op.id)])
            if job is not None and job.node is not None:
                return replace(op, node=job.node, fence=job.fence)
        return super().change(op)


class SplitUnit(Wrapper):
    """Applies the operations of a unit one by one, and stops at the one that fails."""

    def apply(self, units: Sequence[seam.Unit]) -> list[seam.UnitResult]:
        return [self._unit(unit) for unit in units]

    def _unit(self, unit: seam.Unit) -> seam.UnitResult:
        results: list[seam.Result] = []
        for index, op in enumerate(unit):
            (result,) = self.inner.apply([(op,)])
            if isinstance(result, seam.Refused):
                return seam.Refused(index, result.result)
            results.extend(result)
        return results


class EntangledUnits(Wrapper):
    """Applies nothing of a batch in which one unit fails, and says that the others were applied."""

    def apply(self, units: Sequence[seam.Unit]) -> list[seam.UnitResult]:
        whole = tuple(op for unit in units for op in unit)
        (result,) = self.inner.apply([whole])
        if not isinstance(result, seam.Refused):
            answers = iter(result)
            return [[next(answers) for _ in unit] for unit in units]
        results: list[seam.UnitResult] = []
        left = result.index
        for unit in units:
            failed = 0 <= left < len(unit)
            results.append(seam.Refused(left, result.result) if failed else [_success(op) for op in unit])
            left -= len(unit)
        return results


class LostCommit(Wrapper):
    """Acknowledges every commit, and has forgotten every third one when it is opened again."""

    _journals: Final[dict[str, list[Sequence[seam.Unit]]]] = {}

    def __init__(self, inner: seam.Engine, store: str) -> None:
        """Wrap a new, empty engine; `store` names what is reopened."""
        super().__init__(inner)
        self.abilities = replace(inner.abilities, durable=True)
        self._journal = self._journals.setdefault(store, [])
        self._journal[:] = [units for number, units in enumerate(self._journal, 1) if number % 3]
        for units in self._journal:
            inner.apply(units)

    def apply(self, units: Sequence[seam.Unit]) -> list[seam.UnitResult]:
        self._journal.append(units)
        return self.inner.apply(units)


class DoubleClaim(Wrapper):
    """Gives the last job of one claim away once more, at the same fence, with the next claim."""

    last: model.Job | None = None

    def apply(self, units: Sequence[seam.Unit]) -> list[seam.UnitResult]:
        results = super().apply(units)
        for result in results:
            for claimed in result if not isinstance(result, seam.Refused) else ():
                if isinstance(claimed, seam.Claimed) and claimed.jobs:
                    last, self.last = self.last, claimed.jobs[-1]
                    claimed.jobs.extend([last] if last is not None else [])
        return results


class FrozenFence(Wrapper):
    """Says that a claim has the fence of the one before."""

    def apply(self, units: Sequence[seam.Unit]) -> list[seam.UnitResult]:
        results = super().apply(units)
        for result in results:
            for claimed in result if not isinstance(result, seam.Refused) else ():
                if isinstance(claimed, seam.Claimed):
                    claimed.jobs[:] = [replace(job, fence=max(job.fence - 1, 1)) for job in claimed.jobs]
        return results


class GreedyClaim(Wrapper):
    """Claims every version of a kind that it knows one version of."""

    def change(self, op: Any) -> seam.Op:
        if isinstance(op, seam.Claim):
            return replace(op, takes=tuple(replace(take, kinds=_any_version(take)) for take in op.takes))
        return super().change(op)


class UnorderedTakes(Wrapper):
    """Serves the takes of a claim from the last to the first."""

    def change(self, op: Any) -> seam.Op:
        return replace(op, takes=op.takes[::-1]) if isinstance(op, seam.Claim) else super().change(op)


class LimitlessTakes(Wrapper):
    """Heeds only the limit of the whole claim."""

    def change(self, op: Any) -> seam.Op:
        if isinstance(op, seam.Claim):
            return replace(op, takes=tuple(replace(take, limit=op.limit) for take in op.takes))
        return super().change(op)


class ForgottenConflict(Wrapper):
    """Takes every job under an id that exists for the same job."""

    def change(self, op: Any) -> seam.Op:
        if isinstance(op, seam.Put):
            (held,) = self.inner.get([op.job.key])
            if held is not None:
                return replace(op, job=replace(op.job, digest=held.digest))
        return super().change(op)


class StaleMade(Wrapper):
    """Makes jobs of ids however old."""

    def change(self, op: Any) -> seam.Op:
        return replace(op, now=0) if isinstance(op, seam.Put) else super().change(op)


class DroppedClaim(Wrapper):
    """Stores of a job that is put claimed neither whose it is nor since when."""

    def change(self, op: Any) -> seam.Op:
        if isinstance(op, seam.Put) and op.job.state is model.State.RUNNING:
            return replace(op, job=replace(op.job, node=None, started_at=None))
        return super().change(op)


class EagerPromotion(Wrapper):
    """Promotes jobs an hour before their time."""

    def change(self, op: Any) -> seam.Op:
        return replace(op, now=op.now + 3600 * clock.SECOND) if isinstance(op, seam.Promote) else super().change(op)


class ForgottenWish(Wrapper):
    """Ends a claim as if nobody had asked to cancel."""

    def change(self, op: Any) -> seam.Op:
        return replace(op, if_cancelled=None) if isinstance(op, seam.Settle) else super().change(op)


class LostErrors(Wrapper):
    """Keeps no errors of attempts."""

    def change(self, op: Any) -> seam.Op:
        return replace(op, error=None) if isinstance(op, seam.Settle) else super().change(op)


class DeafRenewal(Wrapper):
    """Tells no node what it lost."""

    def apply(self, units: Sequence[seam.Unit]) -> list[seam.UnitResult]:
        return [
            result
            if isinstance(result, seam.Refused)
            else [replace(one, lost=()) if isinstance(one, seam.Renewed) else one for one in result]
            for result in super().apply(units)
        ]


class SparedNothing(Wrapper):
    """Purges beyond the number to keep without regard to the idempotency time."""

    def change(self, op: Any) -> seam.Op:
        return replace(op, spare=1 << 62) if isinstance(op, seam.Purge) else super().change(op)


class IgnoredGuard(Wrapper):
    """Takes the version that a unit requires for the one that is there."""

    def change(self, op: Any) -> seam.Op:
        if isinstance(op, seam.Require):
            return replace(op, version=self.inner.document(op.domain, op.path).version)
        return super().change(op)


class LastWriteWins(Wrapper):
    """Writes a document whatever version was expected."""

    def change(self, op: Any) -> seam.Op:
        if isinstance(op, seam.PutDocument):
            return replace(op, expect=self.inner.document(op.domain, op.path).version)
        return super().change(op)


class SkippedJob(Wrapper):
    """Leaves out the first job of every page but the first."""

    def find(self, filter: seam.Filter, limit: int, cursor: bytes | None = None) -> seam.Page:
        page = self.inner.find(filter, limit, cursor)
        return page if cursor is None else seam.Page(page.jobs[1:], page.cursor)


class DriftingCounts(Wrapper):
    """Counts what it stored, also when it was not."""

    def __init__(self, inner: seam.Engine) -> None:
        super().__init__(inner)
        self._refused = 0

    def apply(self, units: Sequence[seam.Unit]) -> list[seam.UnitResult]:
        results = super().apply(units)
        self._refused += sum(isinstance(result, seam.Refused) for result in results)
        return results

    def counts(self, domain: str, subtree: bool = False) -> list[model.Count]:
        return [replace(row, jobs=row.jobs + self._refused) for row in self.inner.counts(domain, subtree)]


class BlindPolling(Wrapper):
    """Sees no due jobs when it is asked whether something is ready."""

    def ready(self, takes: Sequence[seam.Take], now: int) -> bool:
        return self.inner.ready(takes, 0)


ALL: Final[tuple[type[Wrapper], ...]] = tuple(Wrapper.__subclasses__())


def wrap(broken: type[Wrapper], open: Callable[[], seam.Engine], store: str = "") -> Wrapper:
    """Return an engine of a broken kind around a new one; the same `store` again is the same store for `LostCommit`."""
    return LostCommit(open(), store) if broken is LostCommit else broken(open())


def _success(op: seam.Op) -> seam.Result:
    if isinstance(op, seam.Put):
        return seam.Created()
    return seam.Settled(op.outcome.state) if isinstance(op, seam.Settle) else seam.Held()


def _any_version(take: seam.Take) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((kind, tuple(range(1, 10))) for kind, _ in take.kinds)
