"""Calls to a named service in another process: one by one, and many in flight; beside them gRPC's Python asyncio in the same run.

Callboard's figure is the whole way: the cached name, the epoch, checked arguments, the method of a class, its checked result.
gRPC's is a method that returns its bytes, without any encoding of arguments. Lookups are measured on the same deployment.
"""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec

from callboard.cli import output
from callboard.cli.bench import deployment, joined, rounds, samples
from callboard.names import resolver

ARGS: Final = msgspec.msgpack.encode({"value": "what is to be said twice"})
LOOKUPS: Final = 2_000


async def measure() -> dict[str, Any]:
    """Return both sides' latency and rate, their ratios, and the time of lookups."""
    async with deployment.deploy(workers=0, slots=1, services=2) as made, joined.names(made.data) as names:

        async def once() -> None:
            await names.call("echo", "say", ARGS)

        ours = await rounds.measure(once)
        return {"callboard": ours, "lookup": await _lookups(names), **await _beside(ours)}


async def _beside(ours: dict[str, float]) -> dict[str, Any]:
    try:
        from callboard.cli.bench import grpc_echo  # An optional extra: grpcio.
    except ImportError:
        output.complain("no comparison without grpcio: pip install 'callboard[bench]'", "unsupported")
        return {}
    theirs = await grpc_echo.measure(ARGS)
    return {
        "grpc_aio": theirs,
        "rate_against_grpc": round(ours["per_second"] / theirs["per_second"], 1),
        "latency_against_grpc": round(ours["p50_us"] / theirs["p50_us"], 2),
    }


async def _lookups(names: resolver.Resolver) -> dict[str, float]:
    """Microseconds of a cached lookup, and of one that a registry in another process answers."""
    count = 100 * LOOKUPS
    began = time.perf_counter()
    for _ in range(count):
        names.cached("echo")
    cached = (time.perf_counter() - began) / count
    seconds = []
    for number in range(LOOKUPS):
        began = time.perf_counter()
        await names.lookup(f"echo@tenant-{number}")
        seconds.append(time.perf_counter() - began)
    return {
        "cached_us": round(cached * 1e6, 2),
        "registry_p50_us": round(samples.percentile(seconds, 50) * 1e6, 1),
        "registry_p99_us": round(samples.percentile(seconds, 99) * 1e6, 1),
    }
