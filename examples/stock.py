"""A named service with a standby: one instance answers for each domain, another one takes over when it dies.

callboard up stock:app --detach
callboard call stock take item=lamp pieces=3
callboard submit shop.order item=lamp pieces=2 --wait
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from typing import Any

import msgspec

from callboard import Call, Callboard, ServiceError, method

app = Callboard("shop")


class SoldOut(ServiceError):
    """Reaches the caller with this code, the message and the data."""

    code = "sold_out"


class Receipt(msgspec.Struct):
    item: str
    left: int
    epoch: int
    """Grows whenever another instance takes over: what the stock is written to can refuse a lower one."""


@app.service("stock", active="one")
class Stock:
    async def start(self) -> None:
        """Called when this instance becomes the active one: read here what was written down."""
        self.pieces = Counter(lamp=10, chair=4)

    @method(idempotent=True)
    async def left(self, item: str) -> int:
        return self.pieces[item]

    async def take(self, call: Call, item: str, pieces: int = 1) -> Receipt:
        if self.pieces[item] < pieces:
            raise SoldOut(f"only {self.pieces[item]} of {item} are left", left=self.pieces[item])
        self.pieces[item] -= pieces
        return Receipt(item, self.pieces[item], call.epoch)


@app.job(attempts=3)
async def order(item: str, pieces: int = 1) -> str:
    """Handlers call services by name, wherever those run."""
    receipt = await app.call("stock", "take", item=item, pieces=pieces)
    return f"{pieces} {item} ordered, {receipt.left} left"


async def main(gateways: str, key: str | None = None) -> None:
    async with app.connect(gateways, key=key):
        stock: Any = app.name("stock")
        print("lamps:", await stock.left(item="lamp"))
        job = await order.submit(item="lamp", pieces=3)
        print(await job.result(timeout=30))
        try:
            await stock.take(item="chair", pieces=5)
        except SoldOut as error:
            print(error.code, error.data["left"])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
