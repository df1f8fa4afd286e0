"""The promises of `callboard.jobs.engine`, one function each, in modules by verb.

`ALL` lists them, `broken` runs them against an engine without pytest, `suite` runs them with it. What they have in common is
in `bench`. They pass times as `now` and never sleep; order is tested only where the seam promises one.
"""

from __future__ import annotations

from collections.abc import Callable

from callboard.testing.conformance.jobs import bench, born, claims, documents, ends, people, puts, reads, sharing, units, upkeep

ALL: tuple[bench.Promise, ...] = tuple(
    promise
    for module in (units, puts, born, claims, ends, people, upkeep, documents, reads, sharing)
    for promise in vars(module).values()
    if isinstance(promise, bench.Promise)
)
"""Every promise, in the order in which an engine is best made to keep them."""


def broken(new_store: Callable[[], bench.Open], *, first: bool = False) -> dict[str, Exception]:
    """Return the promises that an engine breaks, by name, each with how; only one of them when `first`.

    `new_store` is called for each promise and returns how to open engines on one new store. Promises that need an ability
    which the engine does not declare are left out, and those across processes, which need a URL.
    """
    found: dict[str, Exception] = {}
    for promise in ALL:
        with bench.Bench(new_store()) as ground:
            if promise.missing(ground):
                continue
            try:
                promise.run(ground)
            except Exception as error:  # whatever goes wrong breaks the promise
                found[promise.name] = error
                if first:
                    break
    return found
