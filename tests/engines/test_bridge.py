"""Jobs out of ActiveMQ: what becomes of a message, whose it is, and what stays in the broker. Real brokers, real sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from callboard import errors
from callboard.app import Callboard, Context
from callboard.jobs import submission
from callboard.jobs.model import State
from callboard.kit import uuid7
from callboard.roles.bridge import feed as feeds
from callboard.testing.engines import activemq as activemqs
from tests.engines import bridging
from tests.engines.bridging import Bridged

MAIN = "callboard.main.default"


class Stage:
    def __init__(self) -> None:
        self.app = app = Callboard("b")
        self.go = asyncio.Event()
        self.begun: list[tuple[int, float]] = []
        self.most = self.now = 0

        @app.job(lane="short")
        async def quick(n: int = 0) -> int:
            self.begun.append((n, time.perf_counter()))
            return n

        @app.job
        async def hold(ctx: Context, n: int = 0) -> int:
            self.begun.append((n, time.perf_counter()))
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                await self.go.wait()
            finally:
                self.now -= 1
            return n

        @app.job(attempts=1)
        async def broken(n: int = 0) -> None:
            raise ValueError(f"no {n}")


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
async def yard(eventually: Any, activemq: Any) -> AsyncIterator[Bridged]:
    async with bridging.bridged(eventually, activemq.url()) as made:
        yield made


async def test_a_message_runs_and_is_acknowledged(yard: Bridged, stage: Stage, activemq: Any) -> None:
    await yard.node(stage.app)
    teller = await yard.teller()
    await teller.send(MAIN, {"kind": "b.quick", "args": {"n": 7}})
    await yard.ended(1)
    (job,) = await yard.jobs()
    assert job.fence == 1
    assert job.run == 1
    await yard.until(lambda: activemq.queue(MAIN).size == 0)


async def test_it_is_submitted_and_claimed_in_one_commit_and_acknowledged_after_it(
    yard: Bridged, stage: Stage, activemq: Any
) -> None:
    committed: list[int] = []

    def watch(units: Any) -> None:
        if bridging.puts(units):
            committed.append(activemq.queue(MAIN).dequeued)

    yard.store.forgets = watch
    node = await yard.node(stage.app)
    teller = await yard.teller()
    await teller.send(MAIN, {"kind": "b.hold"})
    await yard.until(lambda: stage.now == 1)
    (job,) = await yard.jobs()
    assert job.state is State.RUNNING
    assert job.node == node.id
    assert committed == [0]
    stage.go.set()
    await yard.until(lambda: activemq.queue(MAIN).dequeued == 1)


async def test_messages_in_hand_are_never_more_than_slots_and_others_get_the_next(
    yard: Bridged, stage: Stage, activemq: Any
) -> None:
    teller = await yard.teller()
    await asyncio.gather(*(teller.send(MAIN, {"kind": "b.hold", "args": {"n": n}}) for n in range(10)))
    full = await yard.node(stage.app, slots=3)
    await yard.until(lambda: stage.now == 3)
    await yard.until(lambda: activemq.queue(MAIN).in_flight == 3)  # The broker counts what it has sent a moment later.
    assert len(await yard.jobs()) == 3
    other = await yard.node(stage.app, slots=2)
    await yard.until(lambda: stage.now == 5)
    assert len(await yard.jobs()) == 5
    assert (full.bridge.stats()["claimed"], other.bridge.stats()["claimed"]) == (3, 2)
    stage.go.set()
    await yard.ended(10)
    assert stage.most == 5
    await yard.until(lambda: activemq.queue(MAIN).size == 0)


async def test_long_jobs_leave_the_short_ones_slots_and_go_into_the_store_in_bounds(
    yard: Bridged, stage: Stage, activemq: Any
) -> None:
    """Short jobs behind them in the same destination are found; the backlog stays in the broker all the same."""
    teller = await yard.teller()
    for n in range(2):
        await teller.send(MAIN, {"kind": "b.hold", "args": {"n": n}})
    for n in range(2, 5):
        await teller.send(MAIN, {"kind": "b.quick", "args": {"n": n}})
    for n in range(5, 26):
        await teller.send(MAIN, {"kind": "b.hold", "args": {"n": n}})
    await yard.node(stage.app, slots=2, floor=1)
    await yard.ended(3)
    assert stage.now == 1
    assert sorted(n for n, _ in stage.begun)[1:] == [2, 3, 4]
    assert len(await yard.jobs(State.AVAILABLE)) <= 2
    stage.go.set()
    await yard.ended(26)
    await yard.until(lambda: activemq.queue(MAIN).size == 0)


async def test_a_message_that_comes_twice_meets_its_job(yard: Bridged, stage: Stage, activemq: Any) -> None:
    teller = await yard.teller()
    id = uuid7.text(uuid7.make(yard.queue.clock.now()))
    await yard.node(stage.app)
    for _ in range(3):
        await teller.send(MAIN, {"kind": "b.quick", "args": {"n": 1}}, {"callboard-id": id})
        await yard.until(lambda: activemq.queue(MAIN).size == 0)
    (job,) = await yard.jobs()
    assert uuid7.text(job.id) == id
    assert [n for n, _ in stage.begun] == [1]
    assert yard.nodes[0].bridge.stats()["duplicates"] == 2


async def test_what_is_delivered_again_after_a_lost_connection_meets_its_job(yard: Bridged, stage: Stage, activemq: Any) -> None:
    node = await yard.node(stage.app)
    teller = await yard.teller()
    await teller.send(MAIN, {"kind": "b.hold"})
    await yard.until(lambda: stage.now == 1)
    await asyncio.to_thread(activemq.restart)
    await yard.until(lambda: node.bridge.stats()["duplicates"] == 1, 20)
    stage.go.set()
    await yard.ended(1)
    await yard.until(lambda: activemq.queue(MAIN).size == 0)
    assert len(stage.begun) == 1


async def test_messages_in_the_hands_of_a_node_that_dies_run_once_elsewhere(yard: Bridged, stage: Stage, activemq: Any) -> None:
    teller = await yard.teller()
    teller.link.subscribe("replies", 10)
    for n in range(6):
        await teller.send(MAIN, {"kind": "b.hold", "args": {"n": n}}, {"reply-to": "/queue/replies"})
    dying = await yard.node(stage.app, slots=3)
    await yard.until(lambda: stage.now == 3)
    yard.nodes.remove(dying)
    await dying.die()
    assert len(await yard.queue.expire([dying.id])) == 3
    stage.go.set()
    other = await yard.node(stage.app, slots=3)
    await yard.ended(12)  # With the replies.
    await yard.until(lambda: activemq.queue(MAIN).size == 0)
    jobs = [job for job in await yard.jobs() if job.kind == "b.hold"]
    assert sorted(job.deaths for job in jobs) == [0, 0, 0, 1, 1, 1]
    assert other.bridge.stats()["duplicates"] == 3
    await yard.until(lambda: len({word["id"] for word in teller.words()}) == 6)


async def test_a_destination_may_have_a_kind_and_any_name(yard: Bridged, stage: Stage, activemq: Any) -> None:
    await yard.node(stage.app, meant=["orders=main/default:b.quick", "letters=main/letters"])
    teller = await yard.teller()
    await teller.send("orders", {"n": 5})
    await yard.ended(1)
    assert stage.begun[0][0] == 5
    await teller.send("letters", {"kind": "b.quick", "args": {"n": 6}})
    await yard.until(lambda: activemq.queue("letters").dequeued == 1)
    (waits,) = await yard.jobs(State.AVAILABLE)  # No worker here takes from that queue.
    assert waits.queue == "letters"


async def test_jolokia_and_delays_and_unknown_kinds(yard: Bridged, stage: Stage, activemq: Any) -> None:
    await yard.node(stage.app)
    await asyncio.to_thread(activemq.send_text, MAIN, '{"kind": "b.quick", "args": {"n": 3}}')
    await yard.ended(1)
    await asyncio.to_thread(activemq.send_text, MAIN, '{"kind": "b.quick", "delay": 60}')
    await asyncio.to_thread(activemq.send_text, MAIN, '{"kind": "other.kind"}')
    await yard.until(lambda: activemq.queue(MAIN).dequeued == 3)
    assert len(await yard.jobs(State.SCHEDULED)) == 1
    assert [job.kind for job in await yard.jobs(State.AVAILABLE)] == ["other.kind"]


BAD = {
    "not JSON": (b"hello", {}, "invalid_input: the body is not JSON"),
    "garbage": (b"\xff\xfe\x00\x01", {}, "invalid_input: the body is"),
    "unknown field": (b'{"kind": "b.quick", "arg": {}}', {}, "invalid_input"),
    "no object": (b"[1]", {}, "invalid_input"),
    "arguments": (b'{"kind": "b.quick", "args": {"m": 1}}', {}, "invalid_arguments"),
    "other domain": (b'{"kind": "b.quick", "domain": "acme"}', {}, "names domain 'acme'"),
    "too large": (b'{"kind": "other.kind", "args": {"n": "' + b"x" * 300_000 + b'"}}', {}, "too_large"),
    "over the limit": (b'{"kind": "b.quick", "args": {"n": "' + b"x" * 5_000_000 + b'"}}', {}, None),
    "bad id": (b'{"kind": "b.quick"}', {"callboard-id": "1234"}, "invalid_id"),
    "reserved meta": (b'{"kind": "b.quick", "meta": {"callboard.reply-to": "/queue/secret"}}', {}, "Callboard's own"),
}


async def test_bad_messages_go_to_dead_letters_and_block_nobody(yard: Bridged, stage: Stage, activemq: Any) -> None:
    node = await yard.node(stage.app)
    teller = await yard.teller()
    for body, headers, _ in BAD.values():
        await teller.send(MAIN, body, headers)
    id = uuid7.text(uuid7.make(yard.queue.clock.now()))
    await teller.send(MAIN, {"kind": "b.quick", "args": {"n": 1}}, {"callboard-id": id})
    await teller.send(MAIN, {"kind": "b.quick", "args": {"n": 2}}, {"callboard-id": id})
    await teller.send(MAIN, {"kind": "b.quick", "args": {"n": 3}})
    await yard.ended(2)
    assert sorted(n for n, _ in stage.begun) == [1, 3]
    await yard.until(lambda: activemq.queue(MAIN).size == 0)
    assert node.bridge.stats()["dead_letters"] == len(BAD) + 1
    teller.link.subscribe(f"DLQ.{MAIN}", 100)
    await yard.until(lambda: len(teller.found) == len(BAD) + 1)
    reasons = {message.body: message.headers.get("callboard-reason", "") for message in teller.found}
    for body, _, reason in BAD.values():
        if reason is not None:
            assert reason in reasons[body]
    assert [reason for reason in reasons.values() if reason.startswith("id_conflict")]


@pytest.mark.parametrize("kind, state", [("b.quick", "completed"), ("b.broken", "discarded")])
async def test_who_asked_for_a_reply_gets_one(yard: Bridged, stage: Stage, kind: str, state: str) -> None:
    await yard.node(stage.app)
    teller = await yard.teller()
    teller.link.subscribe("replies", 10)
    await teller.send(MAIN, {"kind": kind, "args": {"n": 4}}, {"reply-to": "/queue/replies", "correlation-id": "c-1"})
    await yard.until(lambda: teller.found)
    (word,) = teller.words()
    assert teller.found[0].headers["correlation-id"] == "c-1"
    assert word["state"] == state
    (job,) = [job for job in await yard.jobs() if job.kind == kind]
    assert word["id"] == uuid7.text(job.id) == teller.found[0].headers["callboard-id"]
    if state == "completed":
        assert word["result"] == 4
    else:
        assert word["reason"] == "attempts_exhausted"
        assert word["error"] == {"code": "failed", "type": "ValueError", "message": "no 4"}
    ops = next(ops for ops in yard.store.commits if any(getattr(op, "id", b"") == job.id for op in ops))
    assert [type(op).__name__ for op in ops if type(op).__name__ in ("Settle", "Put")] == ["Settle", "Put"]


async def test_a_cancelled_job_and_one_whose_workers_die_are_answered_too(yard: Bridged, stage: Stage) -> None:
    node = await yard.node(stage.app)
    teller = await yard.teller()
    teller.link.subscribe("replies", 10)
    asked = {"reply-to": "/queue/replies"}
    await teller.send(MAIN, {"kind": "b.hold", "args": {"n": 1}}, {**asked, "correlation-id": "wish"})
    await yard.until(lambda: stage.now == 1)
    await yard.queue.cancel("main", (await yard.jobs())[0].id)
    await teller.send(MAIN, {"kind": "b.hold", "delay": 60}, {**asked, "correlation-id": "waits"})
    await yard.until(lambda: node.bridge.stats()["put"] == 2)
    (waits,) = await yard.jobs(State.SCHEDULED)
    await yard.queue.cancel("main", waits.id)
    await yard.until(lambda: len(teller.found) == 2)
    await teller.send(MAIN, {"kind": "b.hold", "args": {"n": 2}}, {**asked, "correlation-id": "killer"})
    for times in range(3):
        await yard.until(lambda times=times: [n for n, _ in stage.begun].count(2) == times + 1)
        (held,) = [job for job in await yard.jobs(State.RUNNING) if job.kind == "b.hold"]
        assert held.deaths == times
        await yard.queue.expire([node.id])
    await yard.until(lambda: {message.headers["correlation-id"] for message in teller.found} == {"wish", "waits", "killer"})
    words = {message.headers["correlation-id"]: word for message, word in zip(teller.found, teller.words(), strict=True)}
    assert (words["wish"]["state"], words["waits"]["state"]) == ("cancelled", "cancelled")
    assert (words["killer"]["state"], words["killer"]["reason"]) == ("discarded", "worker_lost")


async def test_while_the_store_is_away_messages_stay_in_the_broker(yard: Bridged, stage: Stage, activemq: Any) -> None:
    node = await yard.node(stage.app, slots=3)
    teller = await yard.teller()
    yard.store.fails = lambda units: errors.StoreCorrupt("broken") if bridging.puts(units) else None
    for n in range(8):
        await teller.send(MAIN, {"kind": "b.quick", "args": {"n": n}})
    yard.store.fails = lambda units: errors.StoreCorrupt("broken")
    await yard.until(lambda: activemq.queue(MAIN).consumers == 0)
    assert activemq.queue(MAIN).size == 8
    yard.store.fails = lambda units: None
    await yard.ended(8)
    await yard.until(lambda: activemq.queue(MAIN).size == 0)
    assert sorted(n for n, _ in stage.begun) == list(range(8))
    assert node.bridge.ready


async def test_a_commit_whose_answer_is_lost_runs_once(yard: Bridged, stage: Stage, activemq: Any) -> None:
    lost: list[int] = []

    def forget(units: Any) -> Exception | None:
        if bridging.puts(units) and not lost:
            lost.append(1)
            return errors.StoreUnavailable("the answer was lost", unknown=True)
        return None

    yard.store.forgets = forget
    await yard.node(stage.app, slots=3)
    teller = await yard.teller()
    for n in range(6):
        await teller.send(MAIN, {"kind": "b.quick", "args": {"n": n}})
    await yard.ended(6)
    await yard.until(lambda: activemq.queue(MAIN).size == 0)
    assert sorted(n for n, _ in stage.begun) == list(range(6))
    assert lost


async def test_a_full_store_leaves_messages_in_the_broker(yard: Bridged, stage: Stage, activemq: Any) -> None:
    yard.store.takes = lambda: False
    node = await yard.node(stage.app)
    teller = await yard.teller()
    await teller.send(MAIN, {"kind": "b.quick"})
    await yard.until(lambda: node.bridge.stats()["messages"] >= 2)
    assert activemq.queue(MAIN).size == 1
    yard.store.takes = lambda: True
    await yard.ended(1)


async def test_a_paused_queue_leaves_its_messages_in_the_broker(yard: Bridged, stage: Stage, activemq: Any) -> None:
    await yard.node(stage.app)
    await yard.until(lambda: activemq.queue(MAIN).consumers == 1)
    await yard.queue.pause("main", "default", True)
    await yard.until(lambda: activemq.queue(MAIN).consumers == 0)
    teller = await yard.teller()
    await teller.send(MAIN, {"kind": "b.quick"})
    assert activemq.queue(MAIN).size == 1
    await yard.queue.pause("main", "default", False)
    await yard.ended(1)


async def test_draining_acknowledges_what_is_stored_and_gives_back_the_rest(yard: Bridged, stage: Stage, activemq: Any) -> None:
    teller = await yard.teller()
    node = await yard.node(stage.app, slots=2)
    for n in range(5):
        await teller.send(MAIN, {"kind": "b.hold", "args": {"n": n}})
    await yard.until(lambda: stage.now == 2)
    yard.nodes.remove(node)
    stopping = asyncio.ensure_future(node.stop())
    await yard.until(lambda: activemq.queue(MAIN).consumers == 0)
    assert activemq.queue(MAIN).size == 3
    stage.go.set()
    await stopping
    assert len(await yard.jobs(State.COMPLETED)) == 2
    assert len(await yard.jobs()) == 2
    other = await yard.node(stage.app)
    await yard.ended(5)
    assert other.bridge.stats()["duplicates"] == 0


async def test_a_broker_that_is_killed_loses_nothing(yard: Bridged, stage: Stage, activemq: Any, caplog: Any) -> None:
    teller = await yard.teller()
    await yard.node(stage.app)
    await asyncio.gather(*(teller.send(MAIN, {"kind": "b.quick", "args": {"n": n}}) for n in range(300)))
    await yard.until(lambda: len(stage.begun) > 20)
    await asyncio.to_thread(activemq.restart)
    await yard.ended(300)
    assert sorted(n for n, _ in stage.begun) == list(range(300))
    await yard.until(lambda: activemq.queue(MAIN).size == 0)


async def test_two_brokers_are_consumed_at_once_and_one_may_be_away(yard: Bridged, stage: Stage, activemq: Any) -> None:
    with activemqs.Broker() as second:
        node = await yard.node(stage.app, urls=[activemq.url(), second.url()])
        here, there = await yard.teller(), await yard.teller(second.url())
        await there.send(MAIN, {"kind": "b.quick", "args": {"n": 1}})
        await yard.ended(1)
        second.freeze()
        await here.send(MAIN, {"kind": "b.quick", "args": {"n": 2}})
        await yard.ended(2)
        second.cont()
        second.kill()
        await here.send(MAIN, {"kind": "b.quick", "args": {"n": 3}})
        await yard.ended(3)
        await yard.until(lambda: "away" in node.bridge.facts()["brokers"].values())
        await asyncio.to_thread(second.start)
        again = await yard.teller(second.url())
        await again.send(MAIN, {"kind": "b.quick", "args": {"n": 4}})
        await yard.ended(4)


async def test_wrong_credentials_are_said_once_and_the_store_s_jobs_go_on(
    yard: Bridged, stage: Stage, activemq: Any, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(feeds, "REFUSED_SECONDS", 0.05)
    url = f"activemq://nobody:wrong-password@127.0.0.1:{activemq.stomp}"
    node = await yard.node(stage.app, urls=[url])
    (feed,) = node.bridge._feeds
    await yard.until(lambda: feed.tries >= 3)
    given = submission.Submission(kind="b.quick", args={"n": 9})
    await yard.queue.submit([submission.build(given, stage.app.kinds, yard.queue.clock.now())])
    await yard.ended(1)
    assert not node.bridge.wants_restart
    said = [line for line in capsys.readouterr().out.splitlines() if "broker" in line]
    assert len(said) == 1
    assert "wrong-password" not in said[0]


async def test_rights_that_lack_are_said_once_and_what_may_be_consumed_is(yard: Bridged, stage: Stage, capsys: Any) -> None:
    rights = {"open.>": ("ops", "app"), "DLQ.>": ("ops",), ">": ("ops",)}
    with activemqs.Broker(users={"ops": "1", "app": "2"}, rights=rights) as strict:
        node = await yard.node(stage.app, meant=["open.a=main/default", "shut.b=main/default"], urls=[strict.url("app")])
        teller = await yard.teller(strict.url("ops"))
        await teller.send("open.a", b"garbage")
        await teller.send("open.a", {"kind": "b.quick", "args": {"n": 1}})
        await yard.ended(1)
        await yard.until(lambda: strict.queue("open.a").size == 0)
        (feed,) = node.bridge._feeds
        await yard.until(lambda: feed.consumed == ["open.a"])
        assert feed.connections == 1
        said = [line for line in capsys.readouterr().out.splitlines() if "give its user" in line]
        assert len(said) == 2


async def test_the_store_and_the_broker_share_the_slots(yard: Bridged, stage: Stage, activemq: Any) -> None:
    """Neither starves the other: with work on both sides, both move."""
    for n in range(200):
        given = submission.Submission(kind="b.quick", args={"n": n})
        await yard.queue.submit([submission.build(given, stage.app.kinds, yard.queue.clock.now())])
    teller = await yard.teller()
    await asyncio.gather(*(teller.send(MAIN, {"kind": "b.quick", "args": {"n": 1000 + n}}) for n in range(200)))
    await yard.node(stage.app, slots=2)
    await yard.ended(400)
    order = [n >= 1000 for n, _ in stage.begun]
    assert 40 < sum(order[:300]) < 280
    await yard.until(lambda: activemq.queue(MAIN).size == 0)


async def test_the_time_from_message_to_handler(yard: Bridged, stage: Stage, record_property: Any) -> None:
    await yard.node(stage.app)
    teller = await yard.teller()
    took = []
    for n in range(40):
        sent = time.perf_counter()
        await teller.send(MAIN, {"kind": "b.quick", "args": {"n": n}})
        await yard.until(lambda n=n: len(stage.begun) > n)
        took.append(stage.begun[-1][1] - sent)
    took.sort()
    record_property("figure", f"message sent to handler start: p50 {took[20] * 1e3:.1f} ms, p95 {took[37] * 1e3:.1f} ms")
