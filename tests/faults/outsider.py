"""A user's own process that runs a worker, which no agent started: `python -m tests.faults.outsider DATA NODE STORE`. Ends at
SIGTERM.

It holds as many jobs as it has slots and writes nothing while they run; at its end it prints the worker's counters. Like a
node it holds a session, so that the agent sees who claims.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

from callboard.jobs import engines, queue
from callboard.node import layout
from callboard.roles.worker import Worker
from tests.faults import ledger

SLOTS = 2
NEVER_SECONDS = 3600.0
"""Between two renewals: the first that this worker hears of its lost claims is the refusal of its results."""


async def main(data: Path, node: str, url: str) -> None:
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    session = layout.Layout(data).sessions().session(layout.session_name(node))
    store = queue.Queue(engines.open(url))
    await store.start()
    worker = Worker(store, ledger.app, node=bytes.fromhex(node), slots=SLOTS)
    worker.renew_seconds = NEVER_SECONDS
    await worker.start()
    await over.wait()
    await worker.drain(5)
    print(json.dumps(worker.stats()))
    await worker.stop()
    await store.stop()
    session.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
