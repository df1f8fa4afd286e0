"""The promises of `callboard.coordination.engine`, and what elections make of them; a coroutine function each, in modules.

`ALL` lists them, `broken` runs them against an engine without pytest, `suite` runs them with it. What they have in common is
in `bench`: the author of an engine subclasses `bench.Bench` for what can be done to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from callboard.testing.conformance.coordination import bench, ends, guards, offices, outages, watching

PROMISE_SECONDS = 120.0
ALL: tuple[bench.Promise, ...] = tuple(
    promise
    for module in (guards, watching, ends, offices, outages)
    for promise in vars(module).values()
    if isinstance(promise, bench.Promise)
)
"""Every promise, in the order in which an engine is best made to keep them."""


async def keep(promise: bench.Promise, new_bench: Callable[[], bench.Bench]) -> None:
    """Try one promise on a new bench. Raises what breaks it."""
    async with new_bench() as ground:
        async with asyncio.timeout(PROMISE_SECONDS):
            await promise.run(ground)


async def broken(new_bench: Callable[[], bench.Bench], *, first: bool = False) -> dict[str, Exception]:
    """Return the promises that an engine breaks, by name, each with how; only one of them when `first`.

    `new_bench` is called for each promise. Those that need what the bench cannot do are left out.
    """
    found: dict[str, Exception] = {}
    for promise in ALL:
        if promise.missing(new_bench()):
            continue
        try:
            await keep(promise, new_bench)
        except Exception as error:  # whatever goes wrong breaks the promise
            found[promise.name] = error
            if first:
                break
    return found
