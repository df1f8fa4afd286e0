"""Jobs in transactions of their users: submitted with rows, completed with effects; both or neither, whatever dies in between."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import itertools
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy import exc, orm
from sqlalchemy.ext import asyncio as sao

from callboard import errors
from callboard.jobs import engine as seam
from callboard.jobs import model
from callboard.jobs.engines.sql import joined
from callboard.kit import grammar, uuid7
from tests.conftest import Eventually
from tests.engines import transacting
from tests.engines.shop import ROOT, Shop

JOBS = 200
KILLED_EVERY = 25
"""How many jobs are completed from one kill of a worker to the next."""
FAILURES = (
    ("", 1, []),
    ("roll back", 2, ["NotCommitted"]),
    ("raise before", 2, ["ValueError"]),
    ("raise after", 1, []),
)
"""What goes wrong at a handler's first start, the start that completes the job, the errors that are kept."""
WAYS = (transacting.pay, transacting.pay_in_thread, transacting.pay_in_process)
QUICK_SECONDS = 4.5
"""What is not to wait for an open transaction is done long before; who waits for a lock does so for longer."""


class Transactions:
    """What holds on every database; `url` is one that is empty."""

    @pytest.fixture
    def url(self) -> Iterator[str]:
        raise NotImplementedError

    @pytest.fixture
    async def shop(self, url: str, eventually: Eventually, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shop]:
        monkeypatch.setenv(transacting.STORE, url)
        async with transacting.app.connect(url) as own:
            made = Shop(url, own, eventually)
            try:
                yield made
            finally:
                await made.close()

    # Submitting

    async def test_a_job_is_there_if_the_transaction_is_committed(self, shop: Shop) -> None:
        async with shop.asynchronous.begin() as on:
            await on.execute(transacting.EFFECT, {"job": "order", "fence": 0})
            job = await transacting.pay.options(tags=["a", "ö"], meta={"m": "ü☃"}, delay=60).submit(connection=on)
            assert job.created
            assert await shop.job(job) is None
        stored = await shop.job(job)
        assert stored is not None
        assert (stored.state, stored.tags, stored.meta) == (model.State.SCHEDULED, ("a", "ö"), {"m": "ü☃"})
        assert await shop.counts() == {"scheduled": 1}
        page = await shop.queue.find(seam.Filter(domain=grammar.DEFAULT_DOMAIN, tag="ö"), 10)
        assert [each.id for each in page.jobs] == [stored.id]
        assert await job.cancel() == "cancelled"

    async def test_a_job_was_never_there_if_it_is_rolled_back(self, shop: Shop) -> None:
        with contextlib.suppress(ZeroDivisionError):
            async with shop.asynchronous.begin() as on:
                await on.execute(transacting.EFFECT, {"job": "order", "fence": 0})
                job = await transacting.pay.submit(connection=on)
                raise ZeroDivisionError
        assert await shop.job(job) is None
        assert shop.effects() == []
        assert await shop.counts() == {}
        await transacting.pay.submit()  # The kind's name went, too, and can be given again.
        assert await shop.counts() == {"available": 1}

    async def test_connections_and_sessions_async_or_not(self, shop: Shop) -> None:
        with shop.sync.begin() as on:
            await transacting.pay.submit(connection=on)
        with orm.Session(shop.sync) as session, session.begin():
            await transacting.pay.submit(connection=session)
        async with sao.AsyncSession(shop.asynchronous) as other, other.begin():
            await transacting.pay.submit_many([{}, {"way": ""}], connection=other)
        assert await shop.counts() == {"available": 4}

    async def test_without_a_connection_of_the_app(self, shop: Shop) -> None:
        current = transacting.app.connection
        transacting.app.detach(current)
        try:
            with shop.sync.begin() as on:
                job = await transacting.pay.submit(connection=on)
            with pytest.raises(errors.InvalidInput, match="not connected"):
                await job.wait(0)
        finally:
            transacting.app.attach(current)
        assert await shop.job(job) is not None
        await shop.work()
        assert await job.result(timeout=10) == 1

    async def test_the_same_id_again(self, shop: Shop) -> None:
        id = uuid7.text(uuid7.make(shop.queue.clock.now()))
        same = transacting.pay.options(id=id)
        with shop.sync.begin() as on:
            assert (await same.submit(connection=on)).created
            assert not (await same.submit(connection=on)).created
            with pytest.raises(errors.IdConflict):
                await same.submit(connection=on, way="other")
        assert not (await same.submit()).created
        with shop.sync.begin() as on:
            assert not (await same.submit(connection=on)).created
        old = uuid7.text(uuid7.make(shop.queue.clock.now() - 3_600_000_000))
        with shop.sync.begin() as on:
            on.execute(transacting.EFFECT, {"job": "order", "fence": 0})
            with pytest.raises(errors.IdExpired) as caught:
                await transacting.pay.options(id=old).submit(connection=on)
            assert caught.value.data["index"] == 0
            with pytest.raises(errors.IdConflict):  # One refused: none of them.
                await same.submit_many([{}, {"way": "other"}], connection=on)
        assert len(shop.effects()) == 1
        assert await shop.counts() == {"available": 1}

    async def test_the_same_id_of_somebody_else_whom_the_snapshot_does_not_show(self, shop: Shop) -> None:
        same = transacting.pay.options(id=uuid7.text(uuid7.make(shop.queue.clock.now())))
        await transacting.pay.submit()
        with shop.sync.begin() as on:
            on.execute(sa.text("SELECT count(*) FROM callboard_jobs"))
            await same.submit()
            assert not (await same.submit(connection=on)).created

    async def test_open_transactions_wait_for_nobody_and_nobody_for_them(self, shop: Shop) -> None:
        """In the isolation that the product has by default, and while a worker works."""
        await shop.work()
        assert await (await transacting.pay.submit()).result(timeout=10) == 1
        async with contextlib.AsyncExitStack() as stack, asyncio.timeout(QUICK_SECONDS * 5):
            open_ = [await stack.enter_async_context(shop.asynchronous.begin()) for _ in range(4)]
            for _, on in itertools.product(range(3), open_):
                async with asyncio.timeout(QUICK_SECONDS):
                    await on.execute(transacting.EFFECT, {"job": "order", "fence": 0})
                    await transacting.pay.submit(connection=on)
                    assert await (await transacting.pay.submit()).result(timeout=QUICK_SECONDS) == 1

        async def idle() -> bool:
            return await shop.counts() == {"completed": 25}

        await shop.eventually(idle)

    @pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
    async def test_in_either_isolation(self, shop: Shop, level: str) -> None:
        """What others wrote since the transaction began is no obstacle."""
        await transacting.pay.submit()
        engine = shop.asynchronous.execution_options(isolation_level=level)
        for _ in range(3):
            async with asyncio.timeout(QUICK_SECONDS), engine.begin() as one, engine.begin() as other:
                for on in (one, other):
                    await on.execute(sa.text("SELECT count(*) FROM callboard_counts"))
                with shop.sync.begin() as third:
                    await transacting.pay.submit(connection=third)
                for on in (one, other):
                    await transacting.pay.submit(connection=on)
        assert await shop.counts() == {"available": 10}

    async def test_serializable(self, shop: Shop) -> None:
        for _ in range(2):
            async with shop.asynchronous.execution_options(isolation_level="SERIALIZABLE").begin() as on:
                await transacting.pay.submit(connection=on)
        assert await shop.counts() == {"available": 2}

    async def test_what_cannot_work(self, shop: Shop) -> None:
        committing = shop.sync.execution_options(isolation_level="AUTOCOMMIT")
        with committing.connect() as on, pytest.raises(errors.InvalidInput, match="AUTOCOMMIT"):
            await transacting.pay.submit(connection=on)
        with shop.sync.begin() as on:
            on.execute(sa.text("ALTER TABLE callboard_store RENAME TO elsewhere"))
            with pytest.raises(errors.StoreForeign, match=r"use the one of store\.url"):
                await transacting.pay.submit(connection=on)
            on.execute(transacting.EFFECT, {"job": "goes on", "fence": 0})
            on.execute(sa.text("ALTER TABLE elsewhere RENAME TO callboard_store"))
        assert shop.effects() == [("goes on".ljust(len(shop.effects()[0][0])), 0)]
        with shop.sync.begin() as on:
            on.execute(sa.text("UPDATE callboard_store SET version = 9, min_reader = 9"))
            with pytest.raises(errors.StoreTooNew):
                await transacting.pay.submit(connection=on)
            on.execute(sa.text("UPDATE callboard_store SET version = 0, min_reader = 0"))
            with pytest.raises(errors.StoreUnfit, match="callboard migrate"):
                await transacting.pay.submit(connection=on)
            on.rollback()
        assert await shop.counts() == {}

    async def test_a_lost_connection_is_sqlalchemys_to_tell(self, shop: Shop) -> None:
        with shop.sync.connect() as on, shop.sync.connect() as killer:
            mysql = joined.unsupported(on) == "" and on.dialect.name != "postgresql"
            me = on.execute(sa.text(f"SELECT {'connection_id' if mysql else 'pg_backend_pid'}()")).scalar_one()
            killer.execute(sa.text(f"KILL {me}" if mysql else f"SELECT pg_terminate_backend({me})"))
            with pytest.raises(exc.OperationalError):
                await transacting.pay.submit(connection=on)

    async def test_orders(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        """The example."""
        monkeypatch.setenv("DATABASE", str(shop.asynchronous.url.render_as_string(hide_password=False)))
        monkeypatch.syspath_prepend(str(ROOT / "examples"))
        monkeypatch.delitem(sys.modules, "orders", raising=False)
        orders = importlib.import_module("orders")
        await shop.work(orders.app)
        async with (
            orders.web.router.lifespan_context(orders.web),
            httpx.AsyncClient(transport=httpx.ASGITransport(orders.web), base_url="http://shop") as client,
        ):
            placed = (await client.post("/orders", params={"item": "lamp"})).json()
            assert (await client.post("/orders", params={"item": "unicorn"})).status_code == 404

            async def shipped() -> bool:
                answer = (await client.get(f"/orders/{placed['order']}")).json()
                return answer == {"order": placed["order"], "item": "lamp", "shipments": [1]}

            await shop.eventually(shipped)
            await shop.eventually(lambda: shop.workers[0].stats()["settled"] == 1)
        assert await shop.counts() == {"completed": 1}

    # Completing

    @pytest.mark.parametrize("pay", WAYS, ids=lambda pay: pay.__name__)
    async def test_the_job_ends_with_its_effects(self, shop: Shop, pay: Any) -> None:
        made = await shop.work()
        settled = 0
        for way, fence, told in FAILURES:
            job = await pay.submit(way=way)
            assert await job.result(timeout=20) == fence
            assert shop.effects(job.id) == [(job.id, fence)]
            settled += fence
            await shop.settled(made, settled)
            assert await shop.errors(job) == told
            stored = await shop.job(job)
            assert (stored.attempts, stored.fence, stored.node) == (fence, fence, None)
        assert made.stats()["refused"] == 0
        assert await shop.counts() == {"completed": len(FAILURES)}

    async def test_a_process_of_a_handler_that_dies_in_between(self, shop: Shop) -> None:
        made = await shop.work()
        before = await transacting.pay_in_process.submit(way="die before")
        after = await transacting.pay_in_process.submit(way="die after")
        assert await before.result(timeout=20) == 2
        assert await after.result(timeout=20) == 1
        assert shop.effects() == sorted([(before.id, 2), (after.id, 1)])
        assert await shop.errors(before) == ["ProcessDied"]
        assert await shop.errors(after) == []
        assert made.stats()["refused"] == 0

    @pytest.mark.parametrize("pay", WAYS[:2], ids=lambda pay: pay.__name__)
    async def test_a_worker_that_dies_in_between(self, shop: Shop, pay: Any) -> None:
        for where, fence in (("before", 2), ("after", 1)):
            pid, node = await shop.start_process()
            job = await pay.submit(way=f"die {where}")
            await shop.ended(pid)
            await shop.bury(pid, node)
            if fence == 2:
                made = await shop.work()
            assert await job.result(timeout=20) == fence
            assert shop.effects(job.id) == [(job.id, fence)]
            if fence == 2:
                await made.stop()

    async def test_a_claim_that_was_lost_meanwhile(self, shop: Shop) -> None:
        """As of a worker that was frozen until others gave it up: its transaction changes nothing."""
        made = await shop.work()
        id = uuid7.text(uuid7.make(shop.queue.clock.now()))
        transacting.gate[id] = asyncio.Event()
        job = await transacting.pay.options(id=id).submit(way="wait")

        async def runs() -> bool:
            return (await shop.job(job)).state is model.State.RUNNING

        await shop.eventually(runs)
        await shop.queue.expire([(await shop.job(job)).node or b""])
        transacting.gate[id].set()
        assert await job.result(timeout=20) == 2
        assert shop.effects() == [(job.id, 2)]
        await shop.eventually(lambda: not made.stats()["running"])

    async def test_a_worker_that_was_frozen_meanwhile(self, shop: Shop) -> None:
        pid, node = await shop.start_process()
        job = await transacting.pay.submit(way="freeze")
        await shop.eventually(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        await shop.queue.expire([node])
        made = await shop.work()
        assert await job.result(timeout=20) == 2
        await made.stop()
        os.kill(pid, signal.SIGCONT)
        assert await shop.said() == "lost"
        later = await transacting.pay.submit()
        assert await later.result(timeout=20) == 1
        assert shop.effects(job.id) == [(job.id, 2)]

    async def test_a_wish_to_cancel_comes_too_late(self, shop: Shop) -> None:
        await shop.work()
        id = uuid7.text(uuid7.make(shop.queue.clock.now()))
        with shop.sync.connect() as on:
            (job,) = await self.claimed(shop, id)
            await shop.queue.cancel(job.domain, job.id)
            joined.complete(on, job, b"\x01", shop.queue.clock.now())
            on.commit()
        stored = await shop.queue.get(job.domain, job.id)
        assert (stored.state, stored.cancel_requested, stored.result) == (model.State.COMPLETED, False, b"\x01")

    async def claimed(self, shop: Shop, id: str) -> list[model.Job]:
        """Claim a job that no worker here takes."""
        given = model.Job(id=uuid7.parse(id), kind="tx.other", queue="other", digest=b"0" * 16, max_attempts=1)
        await shop.queue.submit([given])
        take = seam.Take(given.domain, "other", given.lane, (("tx.other", (1,)),), 1)
        return (await shop.queue.exchange((), uuid7.make(shop.queue.clock.now()), [take], 1))[1]

    async def test_completing_waits_for_nobody(self, shop: Shop) -> None:
        """Open transactions complete jobs of one kind, and a worker goes on with others."""
        await shop.work()
        jobs = [(await self.claimed(shop, uuid7.text(uuid7.make(shop.queue.clock.now()))))[0] for _ in range(4)]
        with contextlib.ExitStack() as stack:
            for job in jobs:
                on = stack.enter_context(shop.sync.connect())
                async with asyncio.timeout(QUICK_SECONDS):
                    await asyncio.to_thread(joined.complete, on, job, None, shop.queue.clock.now())
                    assert await (await transacting.pay_slowly.submit()).result(timeout=QUICK_SECONDS) == 1
                stack.callback(on.commit)
        assert {(await shop.queue.get(*job.key)).state for job in jobs} == {model.State.COMPLETED}

    async def test_progress_waits_for_nobody(self, shop: Shop) -> None:
        """A renewal that was under way when a handler completed its job holds up no commit of the worker's."""
        (job,) = await self.claimed(shop, uuid7.text(uuid7.make(shop.queue.clock.now())))
        with shop.sync.connect() as on:
            joined.complete(on, job, None, shop.queue.clock.now())
            async with asyncio.timeout(QUICK_SECONDS):
                renewed = await shop.queue.renew(job.node, [(*job.key, job.fence, model.Progress(1, 2))])
            assert renewed == seam.Renewed((), ())
            on.commit()

    async def test_many_at_once(self, shop: Shop) -> None:
        """No server has to end one transaction for another one's sake."""
        workers = [await shop.work() for _ in range(3)]

        async def use() -> None:
            for _ in range(10):
                async with shop.asynchronous.begin() as on:
                    await on.execute(transacting.EFFECT, {"job": "order", "fence": 0})
                    await transacting.pay.submit(connection=on)
                    await transacting.pay_in_thread.options(queue="unserved").submit_many([{}, {}], connection=on)

        await transacting.pay_in_thread.options(queue="unserved").submit()
        await asyncio.gather(*(use() for _ in range(8)))
        await shop.eventually(lambda: sum(each.stats()["settled"] for each in workers) >= 80, 30)
        assert sum(each.stats()["claimed"] for each in workers) == 80
        assert await shop.counts() == {"completed": 80, "available": 161}

    async def test_workers_are_killed_at_random(self, shop: Shop, record_property: Any) -> None:
        """Each of many jobs has its effect once."""
        seed = random.randrange(1 << 32)
        print("seed", seed)
        chance = random.Random(seed)
        jobs = await transacting.pay_slowly.submit_many([{}] * JOBS)
        live = [await shop.start_process() for _ in range(2)]
        dead = []
        for mark in range(KILLED_EVERY, JOBS, KILLED_EVERY):
            await shop.paid(mark)
            pid, node = live.pop(chance.randrange(2))
            await shop.bury(pid, node)
            dead.append(node)
            live.append(await shop.start_process())

        async def over() -> bool:
            await shop.queue.expire(dead)  # A claim that was on its way at the kill may be committed after the first time.
            for each in (await shop.queue.find(_lost, JOBS)).jobs:  # Killed three times with it: somebody sends it again.
                await shop.queue.retry(each.domain, each.id)
            return (await shop.counts()).get("completed") == JOBS

        await shop.eventually(over, 30)
        effects = shop.effects()
        assert sorted(job for job, _ in effects) == sorted(job.id for job in jobs)
        again = sum(fence > 1 for _, fence in effects)
        record_property("figure", f"{JOBS} jobs, {len(dead)} workers killed, {again} jobs begun again, each effect once")


_lost = seam.Filter(domain=grammar.DEFAULT_DOMAIN, states=frozenset({model.State.DISCARDED}))


class TestMariaDb(Transactions):
    @pytest.fixture
    def url(self, mariadb_database: str) -> str:
        return mariadb_database


class TestPostgreSql(Transactions):
    @pytest.fixture
    def url(self, postgresql_database: str) -> str:
        return postgresql_database


@pytest.mark.long
class TestGalera(Transactions):
    @pytest.fixture
    def url(self, galera_database: str) -> str:
        return galera_database
