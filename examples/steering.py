"""What a handler can say: how far it is, that it wants to be run later, that it gives up, and that it noticed a cancellation.

callboard up steering:app --detach
python steering.py
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from callboard import Callboard, CallboardError, Context, Discard, RetryLater

app = Callboard("steering")


@app.job(timeout=60)
async def fetch(ctx: Context, pages: int, ready_at: datetime) -> int:
    """Progress for those who watch (`callboard job ID --follow`), and patience until something is there."""
    if datetime.now(UTC) < ready_at:
        raise RetryLater(0.2, "not published yet")  # No attempt is counted.
    if pages > 1000:
        raise Discard("that is a whole library")  # No attempt follows.
    for page in range(1, pages + 1):
        ctx.progress(page, pages, f"page {page}")
        await asyncio.sleep(0.01)
    return pages


@app.job
async def wait_for_ever(ctx: Context) -> None:
    """An async handler is cancelled like any task: `finally` and `async with` do their work."""
    try:
        await asyncio.Event().wait()
    finally:
        ctx.log.info("tidied up")


async def main(store: Any = None) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=0.3)
    async with app.connect(store):
        fetched = await fetch.options(priority=0).submit(pages=5, ready_at=soon)
        refused = await fetch.submit(pages=5000, ready_at=soon)
        endless = await wait_for_ever.submit()
        print("fetched", await fetched.result(timeout=30), "pages")
        try:
            await refused.result(timeout=30)
        except CallboardError as error:
            print(f"{error.code}: {error}")
        print("cancel:", await endless.cancel(), "→", await endless.wait(timeout=30))


if __name__ == "__main__":
    asyncio.run(main())
