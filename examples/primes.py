"""Work that keeps a core busy, in processes of its own: a timeout or a cancellation kills it, and its neighbours do not wait.

callboard up primes:app --slots 2 --detach
python primes.py
"""

from __future__ import annotations

import asyncio
from typing import Any

from callboard import Callboard, Context

app = Callboard("primes")


@app.job(runs_in="process", timeout=60)
def count(ctx: Context, start: int, stop: int) -> int:
    found = 0
    for number in range(max(start, 2), stop):
        found += all(number % divisor for divisor in range(2, int(number**0.5) + 1))
        if number % 1000 == 0:
            ctx.progress(number - start, stop - start)
    return found


async def main(store: Any = None) -> None:
    async with app.connect(store):
        parts = await count.submit_many([{"start": start, "stop": start + 5000} for start in range(0, 20_000, 5000)])
        print(sum([await part.result(timeout=60) for part in parts]), "primes below 20,000")


if __name__ == "__main__":
    asyncio.run(main())
