"""The app that the fault tests of names run: two services that say who answers, and a room that writes down what it accepts.

Loaded by nodes as `named:app`. Each time that an instance with an office is asked whether it may accept, or may answer, a line
(`epochs.Line`) goes to the file $CALLBOARD_TEST_EPOCHS, or $CALLBOARD_TEST_LEDGER, in one write: the epoch, or the code of the
refusal, and the time just before. Imports nothing of the tests: a node's process knows only this directory.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

from callboard import Call, Callboard, errors, method
from callboard.roles import offices

app = Callboard("named")

POLL_SECONDS = 0.01
LEDGER = os.environ.get("CALLBOARD_TEST_EPOCHS") or os.environ.get("CALLBOARD_TEST_LEDGER", os.devnull)
ledger = os.open(LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
admit = offices.Offices.admit


def write(at: int, epoch: int, code: str = "", mark: str = "", domain: str = "") -> None:
    line = {"at": at, "pid": os.getpid(), "epoch": epoch, "code": code, "mark": mark, "domain": domain}
    os.write(ledger, json.dumps(line).encode() + b"\n")


def boot() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def noted(held: offices.Offices[Any], domain: str, epoch: int) -> int:
    """Decide as ever; write down what our service did. Whoever is frozen after `boot` asks the clock again when it goes on."""
    if held._label != "billing":
        return admit(held, domain, epoch)
    at = boot()
    try:
        accepted = admit(held, domain, epoch)
    except errors.CallError as error:
        write(at, epoch, error.code, domain=domain)
        raise
    write(at, accepted, domain=domain)
    return accepted


offices.Offices.admit = noted  # type: ignore[method-assign, assignment]


def here(call: Call) -> dict[str, int]:
    return {"pid": os.getpid(), "epoch": call.epoch}


@app.service("billing", active="one")
class Billing:
    @method(idempotent=True)
    async def who(self, call: Call) -> dict[str, int]:
        return here(call)

    async def charge(self, call: Call, mark: str) -> dict[str, int]:
        """What must not be done twice."""
        write(boot(), call.epoch, mark=mark)
        return here(call)

    async def linger(self, call: Call, gate: str) -> dict[str, int]:
        """Answer when the file `gate` exists."""
        write(boot(), call.epoch, mark=gate)
        while not os.path.exists(gate):
            await asyncio.sleep(POLL_SECONDS)
        return here(call)

    async def hang(self, call: Call, gate: str) -> dict[str, int]:
        """The same, with the node's loop standing still meanwhile."""
        while not os.path.exists(gate):
            time.sleep(POLL_SECONDS)  # noqa: ASYNC251  # A fault to be tested.
        return here(call)


@app.service("cache", active="all")
class Cache:
    @method(idempotent=True)
    async def who(self, call: Call) -> dict[str, int]:
        return here(call)


@app.job
async def nap(seconds: float = 0.0) -> Any:
    await asyncio.sleep(seconds)
