"""Submissions over HTTP, one by one: 64 connections kept alive, each with a key, against one gateway.

By `wrk` when it is installed; by this project's own client plumbing otherwise, which is slower than the gateway and says so.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from typing import Any

import aiohttp

from callboard.cli.bench import deployment

CONNECTIONS = 64
BODY = '{"kind":"bench.noop","args":{"n":1}}'


async def measure(seconds: int) -> dict[str, Any]:
    """Return durable submissions/s, and with which load generator. No worker competes: the jobs stay queued."""
    async with deployment.deploy(workers=0, slots=1) as made:
        if shutil.which("wrk"):
            return await _wrk(made, seconds)
        return await _own(made, seconds)


async def _wrk(made: deployment.Deployment, seconds: int) -> dict[str, Any]:
    script = made.data / "post.lua"
    script.write_text(f"wrk.method = 'POST'\nwrk.body = '{BODY}'\nwrk.headers['Content-Type'] = 'application/json'\n")
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s", str(script)]
    command += ["-H", f"Authorization: Bearer {made.key}", f"{made.urls[0]}/v1/jobs"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    text = (await process.communicate())[0].decode()
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    median = re.search(r"50%\s+(\S+)", text)
    return {
        "submissions_per_second": round(float(rate[1])) if rate else 0,
        "refused": int(refused[1]) if refused else 0,
        "p50": median[1] if median else "",
        "load": "wrk",
    }


async def _own(made: deployment.Deployment, seconds: int) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    headers = {"Authorization": f"Bearer {made.key}", "Content-Type": "application/json"}
    done = refused = 0

    async def one(session: aiohttp.ClientSession) -> None:
        nonlocal done, refused
        while loop.time() < until:
            async with session.post(f"{made.urls[0]}/v1/jobs", data=BODY, headers=headers) as answer:
                await answer.read()
                done += 1
                refused += answer.status >= 300

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:
        await asyncio.gather(*(one(session) for _ in range(CONNECTIONS)))
    return {
        "submissions_per_second": round(done / seconds),
        "refused": refused,
        "p50": "",
        "load": "aiohttp (the load is slower)",
    }
