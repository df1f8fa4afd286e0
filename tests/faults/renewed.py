"""The app that the tests of drains and renewals run: jobs that write down what they do, and a service that says who answers.

Loaded by nodes as `renewed:app`. Imports nothing of the tests but `ledger`: a node's process knows only this directory.
"""

from __future__ import annotations

import asyncio
import os
from importlib import metadata

import ledger  # type: ignore[import-not-found]

from callboard import Call, Callboard, Context, method

app = Callboard("renewed")
VERSION = metadata.version("callboard")
"""Of the program that was loaded, whatever lies on the disk by now."""

if os.path.exists(f"{ledger.LEDGER}.broken"):
    raise RuntimeError("broken on purpose")


@app.job
async def nap(ctx: Context, seconds: float = 0.0) -> int:
    with ledger.noted(ctx) as fence:
        await asyncio.sleep(seconds)
    return fence


@app.job
async def hold(ctx: Context, gate: str) -> int:
    """Run until the file `gate` exists."""
    with ledger.noted(ctx) as fence:
        while not os.path.exists(gate):
            await asyncio.sleep(ledger.POLL_SECONDS)
    return fence


@app.job
async def version() -> str:
    """Return the version of the program that runs this."""
    return VERSION


@app.service("billing", active="one")
class Billing:
    @method(idempotent=True)
    async def who(self, call: Call) -> dict[str, int]:
        return {"pid": os.getpid(), "epoch": call.epoch}
