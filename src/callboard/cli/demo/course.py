"""What happens in the demo: submit a job for each file, kill a worker and a gateway at 40 %, wait, and read all of it back.

Nothing is judged here; `account` does that with what this collected. Everything goes through the public client.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from callboard import client, errors
from callboard.cli.demo import deployment, showing
from callboard.http import shapes

KIND: Final = "demo.inspect"
KILL_AT: Final = 0.4
SILENCE_SECONDS: Final = 60.0
"""Without a finished job for so long, something hangs."""
LOOK_SECONDS: Final = 20.0
"""How long a worker is looked for that runs a job, and how long the dead may take to be replaced."""
POLL_SECONDS: Final = 0.05
LEAST_SECONDS: Final = 3.0
"""How long all jobs together take at the least, so that a few files leave time to kill."""

Node = dict[str, Any]


class Kill(msgspec.Struct, frozen=True):
    """A node that was killed, when (seconds since 1970), and the jobs that it was running."""

    node: str
    pid: int
    at: float
    running: list[shapes.Job]


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """All that was observed."""

    paths: dict[str, str]
    """File of each submitted job, by the job's id."""
    first_seen: dict[str, shapes.Job]
    """Each job as it was when it was first seen finished."""
    jobs: dict[str, shapes.Job]
    """Every job of the kind that the store holds at the end."""
    details: dict[str, shapes.JobDetail]
    """Those that were started more than once, with the errors of their attempts."""
    worker: Kill
    gateway: Kill
    nodes: list[Node]
    """Who was alive at the end."""
    retries: int
    """Requests that the client had to send again, elsewhere."""


async def run(place: deployment.Deployment, paths: Sequence[str], slots: int, shown: showing.Showing) -> Story:
    """Go the whole way. `slots` are those of all workers together. Raises WaitTimeout when nothing moves any more."""
    async with place.client() as asked:
        wanted = len(await asked.nodes())
        seconds = pace(len(paths), slots)
        given = [asked.job(KIND, {"path": path, "seconds": seconds}, attempts=1) for path in paths]
        receipts = await asked.submit_many(given)
        by_id = {receipt.id: path for receipt, path in zip(receipts, paths, strict=True)}
        shown.submitted(len(by_id))
        first_seen, killed = await _watch(asked, by_id, shown)
        jobs = {job.id: job async for job in asked.jobs(kind=KIND)}
        return Story(
            paths=by_id,
            first_seen=first_seen,
            jobs=jobs,
            details={id: await asked.get(id) for id, job in jobs.items() if job.fence > 1},
            worker=killed[0],
            gateway=killed[1],
            nodes=await _replaced(asked, wanted, {each.node for each in killed}),
            retries=asked.retries,
        )


def pace(files: int, slots: int) -> float:
    """Return the seconds that each job takes at the least, 0 when there are enough of them anyway."""
    seconds = LEAST_SECONDS * slots / files
    return round(seconds, 3) if seconds > 0.03 else 0.0


def of_role(nodes: Sequence[Node], role: str) -> list[Node]:
    """Return the nodes that host a role."""
    return [node for node in nodes if any(each.get("role") == role for each in node["roles"])]


async def _watch(
    asked: client.Client, by_id: Mapping[str, str], shown: showing.Showing
) -> tuple[dict[str, shapes.Job], list[Kill]]:
    """Wait for all jobs, and kill when so many are finished; return each job as it was first seen finished, and the kills."""
    first_seen: dict[str, shapes.Job] = {}
    killed: list[Kill] = []
    async for job in _as_they_finish(asked, by_id):
        first_seen[job.id] = job
        shown.finished(len(first_seen))
        if not killed and len(first_seen) >= KILL_AT * len(by_id):
            killed = [await _kill_worker(asked), await _kill_gateway(asked)]
            shown.killed(killed[0].pid, killed[1].pid, [by_id[each.id] for each in killed[0].running])
    return first_seen, killed


async def _as_they_finish(asked: client.Client, ids: Iterable[str]) -> AsyncIterator[shapes.Job]:
    async with contextlib.aclosing(asked.results(ids)) as results:
        while True:
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    job = await anext(results)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise errors.WaitTimeout(f"no job was finished for {SILENCE_SECONDS:g} s: something hangs") from None
            yield job


async def _kill_worker(asked: client.Client) -> Kill:
    """Kill a worker that surely runs jobs: it is stopped first, then looked at, and goes on if it was idle."""
    end = time.monotonic() + LOOK_SECONDS
    while time.monotonic() < end:
        for node in of_role(await asked.nodes(), "worker"):
            deployment.kill(node, signal.SIGSTOP)
            try:
                running = [job async for job in asked.jobs(state="running", kind=KIND) if job.node == node["incarnation"]]
                if running:
                    deployment.kill(node, signal.SIGKILL)
                    return Kill(node["incarnation"], node["pid"], time.time(), running)
            finally:
                deployment.kill(node, signal.SIGCONT)
        await asyncio.sleep(POLL_SECONDS)
    raise errors.WaitTimeout(f"no worker was found at work for {LOOK_SECONDS:g} s: there is nothing to kill")


async def _kill_gateway(asked: client.Client) -> Kill:
    node = of_role(await asked.nodes(), "gateway")[0]
    deployment.kill(node, signal.SIGKILL)
    return Kill(node["incarnation"], node["pid"], time.time(), [])


async def _replaced(asked: client.Client, wanted: int, dead: Collection[str]) -> list[Node]:
    """Return the nodes once the agent has put others in the place of the dead, or as they are when that takes too long."""
    end = time.monotonic() + LOOK_SECONDS
    while True:
        nodes = [node for node in await asked.nodes() if node["incarnation"] not in dead and node["roles"]]
        if len(nodes) >= wanted or time.monotonic() > end:
            return nodes
        await asyncio.sleep(POLL_SECONDS)
