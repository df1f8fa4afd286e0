"""The promises of `callboard.jobs.engine`, one function each, in modules by verb.

`ALL` lists them, `broken` runs them against an engine without pytest, `suite` runs them with it. What they have in common is
in `bench`. They pass times as `now` and never sleep; order is tested only where the seam promises one.
"""

from __future__ import annotations

from callboard.testing.conformance.jobs import bench, claims, documents, ends, people, puts, reads, sharing, units, upkeep

ALL: tuple[bench.Promise, ...] = tuple(
    promise
    for module in (units, puts, claims, ends, people, upkeep, documents, reads, sharing)
    for promise in vars(module).values()
    if isinstance(promise, bench.Promise)
)
"""Every promise, in the order in which an engine is best made to keep them."""


def broken(open: bench.Open, *, url: str = "", first: bool = False) -> dict[str, Exception]:
    """Return the promises that an engine breaks, by name, each with how; only one of them when `first`.

    `open` opens an engine on a new store; called again before the bench is cleared away, on the same store. Promises that
    need an ability which the engine does not declare are left out, those across processes too when no `url` is given.
    """
    found: dict[str, Exception] = {}
    for promise in ALL:
        with bench.Bench(open, url) as ground:
            if promise.missing(ground):
                continue
            try:
                promise.run(ground)
            except Exception as error:  # whatever goes wrong breaks the promise
                found[promise.name] = error
                if first:
                    break
    return found
