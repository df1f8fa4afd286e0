"""Handlers whose effects lie in the store's database, and worker processes that run them:

python -m tests.engines.transacting STORE     starts a worker for each node that it reads, and says its PID when it works

Each handler writes a row of `effects` and completes its job in one transaction. `way` says what goes wrong the first time.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import importlib
import os
import random
import signal
import sys
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext import asyncio as sao

from callboard import Callboard, Context, errors
from callboard.jobs import engines
from callboard.jobs import queue as queues
from callboard.roles.worker import Worker

STORE = "CALLBOARD_TEST_STORE"
"""Where handlers find the URL of the store."""
app = Callboard("tx")
gate: dict[str, asyncio.Event] = {}
"""By job's id: what the handler of `pay(way="wait")` waits for in the middle of its transaction."""
PDEATHSIG: Final = 1
EFFECT = sa.text("INSERT INTO effects(job, fence) VALUES (:job, :fence)")
_SYNC = {"mysql": "mysql+mysqldb", "postgresql": "postgresql+psycopg"}
_ASYNC = {"mysql": "mysql+aiomysql", "postgresql": "postgresql+psycopg"}


@functools.cache
def engine(url: str) -> sa.Engine:
    return sa.create_engine(_translated(url, _SYNC), poolclass=sa.NullPool)


@functools.cache
def async_engine(url: str) -> sao.AsyncEngine:
    return sao.create_async_engine(_translated(url, _ASYNC), poolclass=sa.NullPool)


def _translated(url: str, drivers: dict[str, str]) -> str:
    """Return a store's URL as SQLAlchemy takes it; of several hosts the first."""
    scheme, _, rest = url.partition("://")
    hosts, _, name = rest.partition("/")
    return f"{drivers[scheme]}://{hosts.partition(',')[0]}/{name}"


@app.job(attempts=3, backoff=0.01)
async def pay(ctx: Context, way: str = "") -> int:
    """In the loop."""
    first = ctx.fence == 1
    async with async_engine(os.environ[STORE]).connect() as on:
        await on.execute(EFFECT, {"job": ctx.id, "fence": ctx.fence})
        if first and way == "wait":
            await gate[ctx.id].wait()
        if first and way == "freeze":
            os.kill(os.getpid(), signal.SIGSTOP)
        try:
            await ctx.complete_in(on, ctx.fence)
        except errors.ClaimLost:
            print("lost", flush=True)
            raise
        if first:
            _fail(way, "before")
        if first and way == "roll back":
            await on.rollback()
        else:
            await on.commit()
    if first:
        _fail(way, "after")
    return -1


def _pay(ctx: Context, way: str = "") -> int:
    first = ctx.fence == 1
    with engine(os.environ[STORE]).connect() as on:
        on.execute(EFFECT, {"job": ctx.id, "fence": ctx.fence})
        ctx.complete_in(on, ctx.fence)
        if first:
            _fail(way, "before")
        if first and way == "roll back":
            on.rollback()
        else:
            on.commit()
    if first:
        _fail(way, "after")
    return -1


@app.job(attempts=3, backoff=0.01)
def pay_in_thread(ctx: Context, way: str = "") -> int:
    return _pay(ctx, way)


@app.job(attempts=3, backoff=0.01, runs_in="process")
def pay_in_process(ctx: Context, way: str = "") -> int:
    ctx.progress(1, 2)
    return _pay(ctx, way)


@app.job(attempts=3, backoff=0.01)
async def pay_slowly(ctx: Context) -> int:
    """As long as it takes to be killed at any point of it."""
    async with async_engine(os.environ[STORE]).begin() as on:
        ctx.progress(1, 3)
        await asyncio.sleep(random.uniform(0, 0.03))
        await on.execute(EFFECT, {"job": ctx.id, "fence": ctx.fence})
        await ctx.complete_in(on, ctx.fence)
        await asyncio.sleep(random.uniform(0, 0.03))
    await asyncio.sleep(random.uniform(0, 0.03))
    return -1


def _fail(way: str, where: str) -> None:
    if way == f"raise {where}":
        raise ValueError(where)
    if way == f"die {where}":
        os.kill(os.getpid(), signal.SIGKILL)


async def work(store: str, node: str) -> None:
    os.environ[STORE] = store
    queue = queues.Queue(engines.open(store))
    await queue.start()
    await Worker(queue, app, node=bytes.fromhex(node), slots=8).start()
    print(os.getpid(), flush=True)
    await asyncio.Event().wait()


def main(store: str) -> None:
    """Workers are forked from here, so that they start at once; they end with this process."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    importlib.import_module(f"callboard.jobs.engines.{store.partition(':')[0]}")
    engine(store), async_engine(store)
    for line in sys.stdin:
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            ctypes.CDLL(None).prctl(PDEATHSIG, signal.SIGKILL)
            asyncio.run(work(store, line.strip()))


if __name__ == "__main__":
    main(sys.argv[1])
