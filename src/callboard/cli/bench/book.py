"""Many names: how fast the domains of a group change hands, and what 100,000 names take.

A resolver in this process knows every name; its cache, the registry's memory and the time of single lookups are what counts.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any, Final

import msgspec

from callboard.cli.bench import deployment, joined, machine, samples
from callboard.names import resolver

DOMAINS: Final = 10_000
NAMES: Final = 100_000
AT_ONCE: Final = 50
SECONDS: Final = 30.0
_who = msgspec.msgpack.Decoder(tuple[int, int]).decode


async def measure() -> dict[str, Any]:
    """Return the seconds until 10,000 names say the new epoch after a kill; memory and lookups of 100,000."""
    async with deployment.deploy(workers=0, slots=1, services=2) as made, joined.names(made.data) as names:
        registry = next(node["pid"] for node in await made.nodes() if any(r["role"] == "registry" for r in node["roles"]))
        await _ask(names, range(DOMAINS))
        changed = await _change_hands(names)
        before = machine.rss_mib(os.getpid()), machine.rss_mib(registry)
        seconds = await _ask(names, range(DOMAINS, NAMES))
        after = machine.rss_mib(os.getpid()), machine.rss_mib(registry)
        alone = await _ask(names, range(NAMES, NAMES + 2_000), at_once=1)
    grown = NAMES - DOMAINS
    return {
        "change_hands_10000_domains_s": round(changed, 3),
        "names": NAMES,
        "resolver_bytes_a_name": round((after[0] - before[0]) * (1 << 20) / grown),
        "registry_grew_mib": round(after[1] - before[1], 1),
        f"lookup_{AT_ONCE}_at_once": samples.milliseconds(seconds),
        "lookup": samples.milliseconds(alone),
    }


def _name(number: int) -> str:
    return f"echo@tenant-{number}.acme"


async def _ask(names: resolver.Resolver, numbers: range, at_once: int = AT_ONCE) -> list[float]:
    """Look all of these names up; return the seconds that each took."""
    waiting, seconds = iter(numbers), []

    async def asker() -> None:
        for number in waiting:
            began = time.perf_counter()
            await names.lookup(_name(number))
            seconds.append(time.perf_counter() - began)

    await asyncio.gather(*(asker() for _ in range(at_once)))
    return seconds


async def _change_hands(names: resolver.Resolver) -> float:
    """Kill the active instance; return the seconds until every name's remembered answer is of the next epoch."""
    pid, epoch = _who(await names.call("echo", "who", msgspec.msgpack.encode({})))
    os.kill(pid, signal.SIGKILL)
    began = time.perf_counter()
    async with asyncio.timeout(SECONDS):
        for number in range(DOMAINS):
            # Looked at as a caller would: nothing tells when a cache has changed.
            while (answer := names.cached(_name(number))) is None or not answer.instances or answer.epoch <= epoch:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
    return time.perf_counter() - began
