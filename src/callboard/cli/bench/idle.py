"""What rest costs: processor time and memory of each process of a deployment that has nothing to do."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from callboard.cli.bench import deployment, machine


async def measure(seconds: float) -> dict[str, Any]:
    """Return percent of a core and MiB resident for agent, gateway and two workers, over `seconds`."""
    async with deployment.deploy(workers=2, slots=16) as made:
        pids = {"agent": made.pid}
        for index, node in enumerate(await made.nodes()):
            pids[f"{node['roles'][0]['role']}-{index}"] = node["pid"]
        await asyncio.sleep(2)
        before = {name: machine.cpu_seconds(pid) for name, pid in pids.items()}
        began = time.monotonic()
        await asyncio.sleep(seconds)
        took = time.monotonic() - began
        return {
            name: {
                "core_percent": round((machine.cpu_seconds(pid) - before[name]) / took * 100, 2),
                "rss_mib": round(machine.rss_mib(pid), 1),
            }
            for name, pid in pids.items()
        }
