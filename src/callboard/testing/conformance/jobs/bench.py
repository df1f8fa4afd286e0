"""What the promises work with: a `Bench` (one store, an engine open on it, short words for operations), and values."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final

import msgspec

from callboard.jobs import engine as seam
from callboard.jobs import model, states
from callboard.kit import clock, grammar, uuid7

Open = Callable[[], seam.Engine]

NOW: Final = 1_700_000_000 * clock.SECOND
SECOND: Final = clock.SECOND
NODE: Final = b"node-aaaaaaaaaaa"
OTHER: Final = b"node-bbbbbbbbbbb"
KIND: Final = "app.work"
_numbers = itertools.count()


class Promise(msgspec.Struct, frozen=True):
    """One promised behaviour: a name, a text, and a function that raises when it is broken."""

    name: str
    text: str
    run: Callable[[Bench], None]
    needs: str = ""
    """The ability without which the promise is not made; `processes`: shared, and open to processes by URL."""

    def missing(self, ground: Bench) -> str:
        """Return the ability that is missing for this promise, or nothing."""
        if self.needs == "processes":
            return "" if ground.engine.abilities.shared and ground.url else "shared"
        return self.needs if self.needs and not getattr(ground.engine.abilities, self.needs) else ""


def promise(run: Callable[[Bench], None]) -> Promise:
    """Make a promise of a function: its name and first line of text."""
    return Promise(run.__name__, (run.__doc__ or "").strip(), run)


def promise_if(needs: str) -> Callable[[Callable[[Bench], None]], Promise]:
    """Make a promise that only engines with an ability give."""
    return lambda run: msgspec.structs.replace(promise(run), needs=needs)


def equal(actual: object, wanted: object) -> None:
    """Raise AssertionError unless both are equal."""
    if actual != wanted:
        raise AssertionError(f"got {actual!r:.2000}\nwanted {wanted!r:.2000}")


def same_members(actual: Iterable[Any], wanted: Iterable[Any]) -> None:
    """Raise AssertionError unless both hold the same things as often, in any order."""
    equal(sorted(actual, key=repr), sorted(wanted, key=repr))


def new_id(now: int = NOW) -> bytes:
    """Return an id of the time `now` (whole milliseconds), greater than those made for that time before."""
    return (now // 1000 << 80 | 7 << 76 | 2 << 62 | next(_numbers)).to_bytes(16, "big")


def job(*, now: int = NOW, **fields: Any) -> model.Job:
    """Return a new job as `states.submitted` makes it at `now`; `delay` (seconds) instead of `run_at` if wished."""
    run_at = now + round(fields.pop("delay", 0) * SECOND)
    given = {"id": new_id(now), "kind": KIND, "digest": b"d" * 16, "max_attempts": 3, "run_at": run_at} | fields
    return states.submitted(model.Job(**given), now)


def take(*kinds: str, limit: int = 1000, **fields: Any) -> seam.Take:
    """Return a take of version 1 of some kinds, of the default domain, queue and lane if not said otherwise."""
    versions = fields.pop("versions", (1,))
    given: dict[str, Any] = {"domain": grammar.DEFAULT_DOMAIN, "queue": model.DEFAULT_QUEUE, "lane": model.Lane.LONG} | fields
    return seam.Take(kinds=tuple((kind, versions) for kind in kinds or (KIND,)), limit=limit, **given)


def settle(job: model.Job, ended: states.Ended, *, node: bytes | None = None, fence: int | None = None) -> seam.Settle:
    """Return the end of a claim, by its owner if not said otherwise."""
    owner = node or job.node or NODE
    fence = job.fence if fence is None else fence
    return seam.Settle(job.domain, job.id, owner, fence, ended.outcome, ended.if_cancelled, ended.error)


def release(job: model.Job, now: int = NOW, *, node: bytes | None = None) -> seam.Release:
    return seam.Release(job.domain, job.id, node or job.node or NODE, job.fence, now)


def unit(engine: seam.Engine, *ops: seam.Op) -> list[Any]:
    """Apply one unit and return its results; AssertionError when it is refused."""
    (result,) = engine.apply([ops])
    if isinstance(result, seam.Refused):
        raise AssertionError(f"refused: {result}")
    equal(len(result), len(ops))
    return list(result)


class Bench:
    """A store for one promise. Engines that it opened are closed when it is left."""

    def __init__(self, open: Open, url: str = "") -> None:
        self.url = url
        self._open = open
        self._opened: list[seam.Engine] = []
        self.engine = self.another()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for engine in self._opened:
            engine.close()

    def another(self) -> seam.Engine:
        """Open one more engine on the same store."""
        self._opened.append(self._open())
        return self._opened[-1]

    def reopen(self) -> None:
        """Close every engine, then open one on the same store."""
        for engine in self._opened:
            engine.close()
        self._opened.clear()
        self.engine = self.another()

    def batch(self, units: Iterable[seam.Unit]) -> list[list[Any] | seam.Refused]:
        """Apply units in one call."""
        return [result if isinstance(result, seam.Refused) else list(result) for result in self.engine.apply(list(units))]

    def unit(self, *ops: seam.Op) -> list[Any]:
        """Apply one unit and return its results; AssertionError when it is refused."""
        return unit(self.engine, *ops)

    def one(self, op: seam.Op) -> Any:
        """Apply one operation and return its result."""
        return self.unit(op)[0]

    def refused(self, *ops: seam.Op) -> seam.Refused:
        """Apply one unit that must be refused, and return how it was."""
        (result,) = self.engine.apply([ops])
        if not isinstance(result, seam.Refused):
            raise AssertionError(f"not refused: {result}")
        return result

    def put(self, *jobs: model.Job, now: int = NOW) -> None:
        """Store new jobs, a unit each, in one batch."""
        for result in self.batch((seam.Put(job, now),) for job in jobs):
            equal(result, [seam.Created()])

    def claim(self, *takes: seam.Take, limit: int = 1000, node: bytes = NODE, now: int = NOW) -> list[model.Job]:
        claimed: list[model.Job] = self.one(seam.Claim(node, takes or (take(),), limit, now)).jobs
        return claimed

    def running(self, *, node: bytes = NODE, **fields: Any) -> model.Job:
        """Store a job and claim it (nothing else may be available to this claim)."""
        made = job(**fields)
        self.put(made)
        wanted = take(made.kind, domain=made.domain, queue=made.queue, lane=made.lane, versions=(made.version,))
        (claimed,) = self.claim(wanted, node=node)
        equal(claimed.id, made.id)
        return claimed

    def finished(self, at: int = NOW, **fields: Any) -> model.Job:
        """Store a job, claim it and complete it at a time; returns it as stored."""
        claimed = self.running(**fields)
        self.one(settle(claimed, states.succeeded(claimed, b"\x01", at)))
        return self.read(claimed)

    def read(self, of: model.Job) -> model.Job:
        """Return a job as it is stored."""
        (found,) = self.engine.get([of.key])
        if found is None:
            raise AssertionError(f"the job {uuid7.text(of.id)} of {of.domain} is gone")
        return found

    def absent(self, of: model.Job) -> None:
        equal(self.engine.get([of.key]), [None])

    def all(self, filter: seam.Filter, page: int = 100) -> list[model.Job]:
        """Return all that a filter finds, page by page."""
        found: list[model.Job] = []
        cursor: bytes | None = None
        for _ in range(10_000):
            answer = self.engine.find(filter, page, cursor)
            if len(answer.jobs) > page:
                raise AssertionError(f"a page of {len(answer.jobs)} where {page} were asked")
            found += answer.jobs
            cursor = answer.cursor
            if cursor is None:
                return found
        raise AssertionError("the cursors do not come to an end")

    def count(self, domain: str = grammar.DEFAULT_DOMAIN, *, subtree: bool = False) -> dict[str, int]:
        """Return how many jobs are in each state, zeros left out."""
        numbers: dict[str, int] = {}
        for row in self.engine.counts(domain, subtree):
            numbers[row.state.word] = numbers.get(row.state.word, 0) + row.jobs
        return {word: number for word, number in numbers.items() if number}

    def everything(self) -> dict[str, Any]:
        """Return all that can be read, in an order of its own: what must not change when nothing is applied."""
        domains = sorted(self.engine.domains())
        jobs = [job for domain in domains for job in self.all(seam.Filter(domain=domain))]
        return {
            "jobs": jobs,
            "errors": [self.engine.attempt_errors(*job.key) for job in jobs],
            "documents": [self.engine.documents(domain, "") for domain in domains],
            "counts": sorted(map(repr, (row for domain in domains for row in self.engine.counts(domain) if row.jobs))),
            "claimants": sorted(self.engine.claimants()),
            "tags": [self.all(seam.Filter(domain=domain, tag="blue")) for domain in domains],
        }
