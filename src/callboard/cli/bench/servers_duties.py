"""What controllers and registries cost the jobs: the throughput of no-op jobs on one server, with and without them, in pairs.

With: a registry and controllers as nodes of their own, of which one holds each office. Without: the same workers and nothing
else; the agent promotes and purges, as it does where nobody is in office. There is no gateway in either, as that hosts them all.
The runs of a pair follow each other, in every other pair the other way about, so that what the machine does meanwhile meets both
alike. Beside the rates stands the processor time of these nodes, which other work on the machine does not change.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from callboard.cli import output
from callboard.cli.bench import figures, machine, pairs, servers_ground, stream

STORES: Final = ("sqlite", "mariadb")
WORKERS: Final = 2
KINDS: Final = {"registry.count": "registry", "controller.count": "domain-controller", "controller.site_count": "site-controller"}
"""The settings that say how many there are, and what the nodes are called."""
_ALPHA: Final = servers_ground.NAMES[0]


async def measure(ground: servers_ground.Ground, number: int, seconds: float) -> dict[str, Any]:
    """Return jobs/s of both in so many pairs, and their ratios, by store."""
    found: dict[str, Any] = {}
    for store in STORES:
        rates: dict[bool, list[float]] = {True: [], False: []}
        shares: list[float] = []
        for pair in range(number):
            for duties in (True, False) if pair % 2 == 0 else (False, True):
                rate, share = await _run(ground, store, seconds, duties=duties)
                rates[duties].append(rate)
                shares += [share] if duties else []
            output.note(f"pair {pair + 1} of {number}, {store}: {rates[True][-1]:.0f} with, {rates[False][-1]:.0f} without")
        ratios = figures.ratios(rates[True], rates[False])
        found[store] = {
            "with": figures.spread(rates[True]),
            "without": figures.spread(rates[False]),
            "ratio": figures.spread(ratios),
            "ratios": [figures.rounded(each) for each in ratios],
            "core_percent": figures.spread(shares),
        }
    return found


async def _run(ground: servers_ground.Ground, store: str, seconds: float, *, duties: bool) -> tuple[float, float]:
    """Return jobs/s, and the percent of a core that the controllers and the registry used meanwhile."""
    shared = await asyncio.to_thread(ground.fresh) if store == "mariadb" else servers_ground.Shared()
    given = {"worker.count": WORKERS, "worker.slots": stream.SLOTS, "service.count": 0, "gateway.count": 0}
    given |= dict.fromkeys(KINDS, int(duties))
    async with servers_ground.stand(shared, {_ALPHA: given}) as cluster:
        pids = [node.pid for kind in KINDS.values() for node in cluster.nodes(_ALPHA, kind)]
        before, began = sum(map(machine.cpu_seconds, pids)), time.monotonic()
        rate = await pairs.flow(cluster.servers[_ALPHA], seconds)
        return rate, 100 * (sum(map(machine.cpu_seconds, pids)) - before) / (time.monotonic() - began)
