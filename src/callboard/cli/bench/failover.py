"""How long a name is without an answer when its active instance dies, or hangs while its session lives.

Callers ask all the time, by an idempotent method; what counts is the longest gap between two answers around the fault, and that
no caller saw an error. The successor is another process with another epoch.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from typing import Any, Final

import msgspec

from callboard import errors
from callboard.cli.bench import deployment, joined, samples
from callboard.names import resolver

CALLERS: Final = 4
DEPLOYMENTS: Final = 8
KILLS: Final = 5
HANGS: Final = 1
HANG_SECONDS: Final = 60.0
TIMEOUT_SECONDS: Final = 10.0
STANDBY_SECONDS: Final = 20.0
_who = msgspec.msgpack.Decoder(tuple[int, int]).decode
_args = msgspec.msgpack.encode
NOTHING: Final = _args({})


async def measure(deployments: int = DEPLOYMENTS) -> dict[str, Any]:
    """Return the gaps after SIGKILL and after a hang, in milliseconds, and how many callers saw an error."""
    killed: list[float] = []
    hung: list[float] = []
    failed = 0
    # A registry shall act on the hang, not the agent; and nothing shall change hands but by the fault.
    given = {"CALLBOARD_AGENT_SILENT_SECONDS": "30", "CALLBOARD_SERVICE_PREEMPT": "false"}
    for _ in range(deployments):  # Several: who dies again and again is started again later and later.
        async with deployment.deploy(workers=0, slots=1, services=3, given=given) as made, joined.names(made.data) as names:
            for gaps, count, fault in ((killed, KILLS, _kill), (hung, HANGS, _hang)):
                found, refused = await _gaps(made, names, count, fault)
                gaps += found
                failed += refused
    return {"killed": samples.milliseconds(killed), "hung": samples.milliseconds(hung), "callers_with_an_error": failed}


async def _kill(names: resolver.Resolver, pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


async def _hang(names: resolver.Resolver, pid: int) -> None:
    with contextlib.suppress(errors.CallboardError):  # There is no answer from one that hangs.
        await names.call("echo", "hang", _args({"seconds": HANG_SECONDS}), timeout=0.1)


async def _gaps(made: deployment.Deployment, names: resolver.Resolver, count: int, fault: Any) -> tuple[list[float], int]:
    """Seconds without an answer around each of `count` faults, and how many calls failed."""
    gaps, failed = [], 0
    for _ in range(count):
        pid, epoch = _who(await names.call("echo", "who", NOTHING, timeout=TIMEOUT_SECONDS))
        callers = [asyncio.create_task(_ask(names, epoch)) for _ in range(CALLERS)]
        await asyncio.sleep(0.05)
        await fault(names, pid)
        answers = await asyncio.gather(*callers)
        failed += sum(each is None for each in answers)
        gaps += [each for each in answers if each is not None]
        await _standby(made, pid, fault is _hang)
    return gaps, failed


async def _ask(names: resolver.Resolver, epoch: int) -> float | None:
    """Call until another epoch answers; return the longest gap between two answers, None when a call failed."""
    last, longest = time.perf_counter(), 0.0
    while True:
        try:
            _, found = _who(await names.call("echo", "who", NOTHING, timeout=TIMEOUT_SECONDS))
        except errors.CallboardError:
            return None
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
        if found != epoch:
            return longest


async def _standby(made: deployment.Deployment, pid: int, hangs: bool) -> None:
    """Wait until the faulty process is replaced by a new one that stands by."""
    if hangs:
        os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(STANDBY_SECONDS):
        while True:
            await asyncio.sleep(0.2)
            hosts = [node for node in await made.nodes() if any(role["role"] == "service" for role in node["roles"])]
            if len(hosts) == 3 and all(node["pid"] != pid for node in hosts):
                return
