"""Hints between processes (here: two clients of a real hub): each hears what concerns it, and no more."""

import asyncio

import msgspec
import pytest

from callboard import errors
from callboard.jobs import hints, hub_hints, queue, submission, waiters
from callboard.jobs.engines import memory
from callboard.rpc import hub

NEWS = hints.Hint(ready=(("main", "default"),), cancelled=((b"n" * 16, "main", b"j" * 16),), documents=(("main", "queues"),))
BOTH = hints.Hint(ready=NEWS.ready, finished=(b"1" * 16,))


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture
async def processes(tmp_path):
    served = hub.Hub()
    await served.start()
    hub.write_address(tmp_path / hub.FILE, served.address)
    made = [hub_hints.HubHints(tmp_path / hub.FILE) for _ in range(2)]
    for one in made:
        await one.start()
    yield made
    for one in made:
        await one.stop()
    await served.stop()


def wanted(one):
    return one._client.wanted


async def test_news_reach_listeners_here_and_elsewhere(processes):
    one, two = processes
    here, there = [], []
    one.listen(here.append)
    two.listen(there.append)
    await until(lambda: hub_hints.NEWS in wanted(one))
    one.publish(NEWS)
    assert here == [NEWS]
    await until(lambda: there == [NEWS])


async def test_finished_jobs_reach_only_those_who_wait(processes):
    one, two = processes
    there = []
    two.listen(there.append)
    await until(lambda: hub_hints.NEWS in wanted(one))
    assert not one.awaited
    one.publish(BOTH)
    await until(lambda: there == [hints.Hint(ready=NEWS.ready)])
    stop = two.await_finished()
    await until(lambda: one.awaited)
    one.publish(hints.Hint(finished=BOTH.finished))
    await until(lambda: there[1:] == [hints.Hint(finished=BOTH.finished)])
    stop()


async def test_waiting_lingers(processes, monkeypatch):
    one, two = processes
    monkeypatch.setattr(hub_hints, "LINGER_SECONDS", 0.05)
    two.await_finished()()
    assert not two.awaited
    await until(lambda: one.awaited)
    stop = two.await_finished()
    stop()
    stop()
    await until(lambda: not one.awaited)


async def test_it_is_quiet_while_nobody_listens(processes):
    one, two = processes
    one.publish(NEWS)
    there = []
    stop = two.listen(there.append)
    await until(lambda: hub_hints.NEWS in wanted(one))
    stop()
    one.publish(NEWS)
    assert there == []


async def test_a_hint_of_a_newer_callboard_is_a_lost_one(processes):
    one, two = processes
    there = []
    two.listen(there.append)
    await until(lambda: hub_hints.NEWS in wanted(one))
    one._client.publish(hub_hints.NEWS, b"\xc1")
    one.publish(NEWS)
    await until(lambda: there == [NEWS])


def test_a_bundle_says_each_thing_once_in_the_order_in_which_it_was_said():
    bundle = hub_hints.Bundle()
    assert bundle.take() == b""
    one = hints.Hint(ready=(("main", "a"), ("main", "b")), finished=(b"1",))
    two = hints.Hint(
        ready=(("main", "b"), ("acme", "")), finished=(b"2", b"1"), cancelled=NEWS.cancelled, documents=NEWS.documents
    )
    for body in (msgspec.msgpack.encode(one), b"\xc1", msgspec.msgpack.encode(two), msgspec.msgpack.encode(two)):
        bundle.add(body)
    both = hints.Hint((("main", "a"), ("main", "b"), ("acme", "")), (b"1", b"2"), NEWS.cancelled, NEWS.documents)
    assert msgspec.msgpack.decode(bundle.take(), type=hints.Hint) == both
    assert bundle.take() == b""


async def test_one_waits_while_it_waits_and_a_moment_longer_whatever_others_do(processes, monkeypatch):
    one, two = processes
    stop = two.await_finished()
    await until(lambda: one.awaited)
    assert two.waiting and not one.waiting
    monkeypatch.setattr(hub_hints, "LINGER_SECONDS", 0.05)
    stop()
    assert two.waiting
    await until(lambda: not two.waiting)


class Unheard(hints.LocalHints):
    """Others wait already; that this process does comes too late to those who end its job."""

    awaited = True  # type: ignore[assignment]

    def deliver(self, hint):
        super().deliver(hints.Hint(ready=hint.ready))


async def test_the_first_wait_of_a_process_looks_by_itself_although_others_wait(monkeypatch):
    monkeypatch.setattr(waiters, "POLL_SECONDS", 600.0)
    store = queue.Queue(memory.open("memory:"), hints=Unheard())
    await store.start()
    job = submission.build(submission.Submission(kind="a.b"), {}, store.clock.now())
    await store.submit([job])
    waiting = asyncio.ensure_future(store.wait("main", job.id, 600.0))
    await until(lambda: store.hints.waiting)
    await store.cancel("main", job.id)
    async with asyncio.timeout(5):
        assert (await waiting).finished
    await store.stop()


async def test_a_wait_outlasts_a_store_that_is_away_for_a_moment_right_after_it_began(monkeypatch):
    monkeypatch.setattr(waiters, "POLL_SECONDS", 0.05)
    store = queue.Queue(memory.open("memory:"), hints=Unheard())
    await store.start()
    job = submission.build(submission.Submission(kind="a.b"), {}, store.clock.now())
    await store.submit([job])
    get, asked = store.engine.get, []

    def away(keys):
        asked.append(keys)
        if 1 < len(asked) < 5:
            raise errors.StoreUnavailable("gone fishing")
        return get(keys)

    monkeypatch.setattr(store.engine, "get", away)
    waiting = asyncio.ensure_future(store.wait("main", job.id, 600.0))
    await until(lambda: len(asked) > 4 or waiting.done())
    await store.cancel("main", job.id)
    async with asyncio.timeout(5):
        assert (await waiting).finished
    await store.stop()


async def test_beside_a_database(tmp_path):
    assert hub_hints.beside(tmp_path / "callboard.db") is None
    (tmp_path / hub.FILE).write_text("{}")
    found = hub_hints.beside(tmp_path / "callboard.db")
    await found.start()
    assert not found.connected
    heard = []
    found.listen(heard.append)
    found.publish(NEWS)
    assert heard == [NEWS]
    await found.stop()
