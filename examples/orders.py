"""A web shop in FastAPI: an order and the job that ships it in one transaction, the shipment and the job's end in another one.

pip install 'callboard[postgresql]' 'sqlalchemy[asyncio]' fastapi uvicorn
export DATABASE=postgresql+psycopg://shop:secret@localhost/shop
callboard up orders:app --store postgresql://shop:secret@localhost/shop --detach
uvicorn orders:web
curl -X POST 'http://127.0.0.1:8000/orders?item=lamp'
curl http://127.0.0.1:8000/orders/1
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import sqlalchemy as sa
from fastapi import FastAPI, HTTPException
from sqlalchemy.ext.asyncio import create_async_engine

from callboard import Callboard, Context

engine = create_async_engine(os.environ.get("DATABASE", "postgresql+psycopg://localhost/shop"))
tables = sa.MetaData()
orders = sa.Table(
    "orders", tables, sa.Column("id", sa.Integer, primary_key=True), sa.Column("item", sa.String(100), nullable=False)
)
shipments = sa.Table(
    "shipments",
    tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("order_id", sa.ForeignKey(orders.c.id), nullable=False),
)
app = Callboard("shop")


@app.job(attempts=5)
async def ship(ctx: Context, order: int) -> int:
    """Whatever dies meanwhile, and how often this is begun again: each order is shipped once."""
    async with engine.begin() as on:
        made = await on.execute(shipments.insert().values(order_id=order))
        number: int = made.inserted_primary_key[0]
        await ctx.complete_in(on, number)  # Last: the commit is next.
    return number


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as on:
        await on.run_sync(tables.create_all)
    yield
    await engine.dispose()


web = FastAPI(lifespan=lifespan)


@web.post("/orders", status_code=201)
async def place(item: str) -> dict[str, int | str]:
    async with engine.begin() as on:
        made = await on.execute(orders.insert().values(item=item))
        order: int = made.inserted_primary_key[0]
        job = await ship.submit(connection=on, order=order)
        if item == "unicorn":
            raise HTTPException(404, "there are none: neither the order nor the job was ever there")
    return {"order": order, "job": job.id}


@web.get("/orders/{order}")
async def look(order: int) -> dict[str, int | str | list[int]]:
    async with engine.connect() as on:
        item = await on.scalar(sa.select(orders.c.item).where(orders.c.id == order))
        if item is None:
            raise HTTPException(404, "no such order")
        shipped = await on.scalars(sa.select(shipments.c.id).where(shipments.c.order_id == order))
        return {"order": order, "item": item, "shipments": list(shipped)}
