"""A process with a session, for tests that freeze it: `python -m tests.engines.holder URL NAME PATH SECONDS`.

Creates an entry and prints its number; then, for each line it reads, confirms it and prints how that went.
"""

from __future__ import annotations

import asyncio
import sys

from callboard import errors
from callboard.coordination import engine as seam
from callboard.coordination import engines
from callboard.kit import telemetry


async def hold(url: str, name: str, path: str, seconds: float) -> None:
    session = await engines.open(url, session_seconds=seconds).session(name)
    (number,) = await session.apply([seam.Create(path, b"held")])
    print(number, flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        try:
            await session.apply([seam.Check(path, number)])
            print("confirmed", flush=True)
        except errors.CoordinationError as error:
            print(error.code, flush=True)
    await session.close()


if __name__ == "__main__":
    telemetry.configure()
    asyncio.run(hold(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])))
