"""Jobs that come as messages, while workers, brokers, connections and stores break: nothing lost, nothing done twice.

Each message ends as one job with one end a run, and what handlers did is written down under (id, fence).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from callboard import errors
from callboard.cli import exits
from callboard.testing import severing
from callboard.testing.engines import activemq as activemqs
from tests.faults import breaking, posting
from tests.faults.deployment import Deployment, boot

SHORT_SECONDS = 30.0
LONG_SECONDS = 240.0
TIMES = 8
RESTART_SECONDS = 60.0
"""In which workers that died often are there again: their agent waits longer each time."""


@pytest.fixture
def store(request: pytest.FixtureRequest) -> str | None:
    """A file, but where a database is to be broken."""
    return request.getfixturevalue("victim").url if "victim" in request.fixturenames else None


@pytest.fixture
def proxy(activemq: activemqs.Broker) -> Iterator[severing.Proxy]:
    with severing.Proxy(activemq.stomp) as made:
        yield made


def by_way_of(broker: activemqs.Broker, proxy: severing.Proxy, user: str | None = None) -> str:
    return broker.url(user).replace(f":{broker.stomp}", f":{proxy.port}")


async def test_workers_die_and_stop(deployment: Deployment, activemq: activemqs.Broker) -> None:
    await posting.up(deployment, activemq.url())
    async with posting.to(deployment, activemq.url()) as post:
        held = await post.send("hold", 8, gate=str(deployment.gate))
        await _killed(deployment, post, held)
        await _stopped(deployment, activemq, post)
        await _killed_by_a_job(deployment, activemq, post)


@pytest.mark.long
async def test_workers_die_often(deployment: Deployment, activemq: activemqs.Broker) -> None:
    await posting.up(deployment, activemq.url())
    async with posting.to(deployment, activemq.url()) as post:
        for _ in range(TIMES):
            await deployment.eventually(lambda: len(deployment.nodes("worker")) == 2, RESTART_SECONDS)
            held = await post.send("hold", 8, gate=str(deployment.gate))
            await post.send("nap", 200, seconds=0.01)
            await _killed(deployment, post, held)
            await deployment.eventually(lambda: deployment.book.ids("ended").issuperset(held), 30)  # noqa: B023
            deployment.gate.unlink()
        jobs, _ = await posting.judged(deployment, activemq, LONG_SECONDS)
    assert {(job.state, job.attempts) for job in jobs} == {("completed", 1)}


async def _killed(deployment: Deployment, post: posting.Post, held: list[str]) -> None:
    """Messages in hand are delivered again when a worker is killed, to whoever meets their jobs: these run again, once."""
    await deployment.eventually(lambda: deployment.book.ids("began").issuperset(held), 20)
    victim, _ = deployment.busiest()
    deployment.kill(victim.pid)

    def again() -> bool:
        mine = deployment.book.held_by(victim.pid)
        return deployment.book.elsewhere(mine, victim.pid).keys() == mine

    await deployment.eventually(again, 20)
    deployment.release()


async def _stopped(deployment: Deployment, broker: activemqs.Broker, post: posting.Post) -> None:
    """A node drains, then all of them: what runs comes to its end, what is not in the store stays in the broker."""
    sent = set(await post.send("nap", 150, seconds=0.1))
    await deployment.eventually(lambda: len(deployment.book.ids("ended") & sent) > 10, 20)
    await deployment.eventually(lambda: any(deployment.book.held_by(node.pid) for node in deployment.nodes("worker")))
    victim = max(deployment.nodes("worker"), key=lambda node: len(deployment.book.held_by(node.pid)))
    mine = deployment.book.held_by(victim.pid)
    deployment.kill(victim.pid, signal.SIGTERM)
    await deployment.eventually(lambda: victim not in deployment.nodes() and len(deployment.nodes("worker")) == 2, 20)
    assert deployment.book.ids("ended") >= mine
    sent |= set(await post.send("nap", 150, seconds=0.35))  # However long it took: there is work left when all stop.
    agent = deployment.agent
    assert agent
    deployment.kill(agent.pid, signal.SIGTERM)
    assert await asyncio.to_thread(agent.wait, 20) == 0
    assert not deployment.nodes()
    done = deployment.book.ids("ended") & sent
    assert done == deployment.book.ids("began") & sent and done < sent
    await deployment.eventually(posting.unread(broker))
    left, stopped_at = await posting.queue(broker), datetime.now(UTC)
    assert (left.in_flight, left.consumers) == (0, 0)
    await posting.up(deployment, broker.url())
    jobs, verdict = await posting.judged(deployment, broker, SHORT_SECONDS)
    assert not sent & set(verdict.repeated)
    jobs = [job for job in jobs if job.id in sent]
    assert {(job.state, job.attempts, job.deaths) for job in jobs} == {("completed", 1, 0)}
    assert left.size >= sum(job.submitted_at > stopped_at for job in jobs) > 0


async def _killed_by_a_job(deployment: Deployment, broker: activemqs.Broker, post: posting.Post) -> None:
    """A job takes each worker along: it is discarded by the record of its deaths, its message is gone, all others run."""
    await post.send("nap", 20, seconds=0.02)
    (killer,) = await post.send("die", answered=True, seconds=0.3)
    await post.send("nap", 100, seconds=0.02)
    await deployment.eventually(lambda: post.answers, 30)
    deployment.killed |= {mark.pid for mark in deployment.book.marks("began") if mark.id == killer}
    jobs, _ = await posting.judged(deployment, broker, SHORT_SECONDS)
    ended = {job.id: job for job in jobs}
    found = ended.pop(killer)
    assert (found.state, found.reason, found.deaths, found.attempts) == ("discarded", "worker_lost", 3, 0)
    assert {job.state for job in ended.values()} == {"completed"}


@pytest.mark.parametrize(
    "messages",
    [pytest.param(1000, id="thousand"), pytest.param(10_000, id="all", marks=pytest.mark.long)],
)
async def test_a_broker_is_killed_with_a_backlog_and_another_one_goes_on(
    deployment: Deployment, activemq: activemqs.Broker, messages: int
) -> None:
    """What was confirmed is there again after its restart; what was in hand comes twice and runs once."""
    with activemqs.Broker() as other:
        await posting.up(deployment, activemq.url(), other.url())
        nodes = deployment.nodes()
        async with posting.to(deployment, activemq.url()) as post, posting.to(deployment, other.url()) as beside:
            held = await post.send("hold", 16, gate=str(deployment.gate))
            await deployment.eventually(lambda: deployment.book.ids("began").issuperset(held))
            waiting = await post.send("nap", messages)
            assert messages <= (await posting.queue(activemq)).size <= messages + 16
            await asyncio.to_thread(activemq.kill)
            deployment.release()
            more = await beside.send("nap", 100)
            await deployment.eventually(lambda: deployment.book.ids("ended") >= {*held, *more}, 20)
            assert len(deployment.book.ids("began") & set(waiting)) <= 16  # Stored, and not acknowledged in time.
            await asyncio.to_thread(activemq.start)
            jobs, verdict = await posting.judged(deployment, activemq, LONG_SECONDS)
        assert not verdict.repeated
        assert {(job.state, job.deaths, job.fence) for job in jobs} == {("completed", 0, 1)}
        assert (await posting.queue(other)).size == 0
    assert deployment.nodes() == nodes
    await deployment.eventually(lambda: len(posting.said(deployment, "broker is back")) == 2, 20)
    lines = [line for line in posting.said(deployment, "broker is away") if f":{activemq.stomp} " in line]
    assert len(lines) == 2


async def test_connections_are_cut(deployment: Deployment, activemq: activemqs.Broker, proxy: severing.Proxy) -> None:
    await posting.up(deployment, by_way_of(activemq, proxy))
    nodes = deployment.nodes()
    async with posting.to(deployment, activemq.url()) as post:
        await _delivered_twice(deployment, activemq, proxy, post, cuts=5)
        assert deployment.nodes() == nodes
        await _killed_before_the_reply(deployment, activemq, proxy, post)


@pytest.mark.long
async def test_acknowledgements_are_cut_often(deployment: Deployment, activemq: activemqs.Broker, proxy: severing.Proxy) -> None:
    await posting.up(deployment, by_way_of(activemq, proxy))
    nodes = deployment.nodes()
    async with posting.to(deployment, activemq.url()) as post:
        await _delivered_twice(deployment, activemq, proxy, post, cuts=100)
    assert deployment.nodes() == nodes


async def _delivered_twice(
    deployment: Deployment, broker: activemqs.Broker, proxy: severing.Proxy, post: posting.Post, cuts: int
) -> None:
    """The connection breaks after the commit and before the broker has heard of it: the message comes again and meets its job."""
    while proxy.cuts < cuts:
        before = proxy.cuts
        proxy.cut_at(b"ACK\n", answered=False)
        await post.send("nap", 20, seconds=0.005)
        await deployment.eventually(lambda: proxy.cuts > before, 20)  # noqa: B023
    jobs, verdict = await posting.judged(deployment, broker, LONG_SECONDS)
    assert not verdict.repeated
    assert {(job.state, job.attempts, job.deaths, job.fence) for job in jobs} == {("completed", 1, 0, 1)}
    await deployment.eventually(posting.duplicates(deployment, cuts))


async def _killed_before_the_reply(
    deployment: Deployment, broker: activemqs.Broker, proxy: severing.Proxy, post: posting.Post
) -> None:
    """The job has ended, and whoever has the word about it in hand is killed: it reaches who asked all the same."""
    (id,) = await post.send("hold", answered=True, gate=str(deployment.gate.with_name("reply")))
    await deployment.eventually(lambda: id in deployment.book.ids("began"))
    proxy.silence()
    deployment.gate.with_name("reply").touch()
    victims: set[int] = set()

    async def replying() -> bool:
        words = [job async for job in deployment.client.jobs(kind="callboard.reply") if job.state == "running"]
        pids = {node.incarnation: node.pid for node in deployment.nodes("worker")}
        victims.update(pids[job.node] for job in words if job.node in pids)
        return bool(victims)

    await deployment.eventually(replying)
    assert (await deployment.client.get(id)).state == "completed" and not post.answers
    for pid in victims:
        deployment.kill(pid)
    proxy.speak()
    await deployment.eventually(lambda: post.answers, 20)
    await posting.judged(deployment, broker)
    assert {answer.headers["correlation-id"] for answer in post.answers} == {f"of {id}"}


@breaking.victims("mariadb")
@pytest.mark.parametrize("seconds", [pytest.param(2, id="short"), pytest.param(60, id="minute", marks=pytest.mark.long)])
async def test_the_store_is_away_while_messages_wait(
    deployment: Deployment, victim: breaking.Victim, activemq: activemqs.Broker, seconds: int
) -> None:
    await posting.up(deployment, activemq.url())
    nodes = deployment.nodes()
    async with posting.to(deployment, activemq.url()) as post:
        held = await post.send("hold", 4, gate=str(deployment.gate))
        await deployment.eventually(lambda: deployment.book.ids("began").issuperset(held))
        await asyncio.to_thread(victim.break_, "kill")
        away = boot()
        await post.send("nap", 50)
        await deployment.eventually(posting.unread(activemq))
        size = (await posting.queue(activemq)).size
        assert size >= 50
        await post.send("nap", 50)
        await deployment.eventually(lambda: boot() > away + seconds * 1e9, seconds + 10)
        assert (await posting.queue(activemq)).size == size + 50
        assert deployment.nodes() == nodes
        await asyncio.to_thread(victim.mend)
        jobs, verdict = await posting.judged(deployment, activemq, LONG_SECONDS)
    assert not verdict.repeated
    assert {(job.state, job.deaths, job.fence) for job in jobs} == {("completed", 0, 1)}
    assert deployment.nodes() == nodes
    assert len(posting.said(deployment, "wait in their brokers")) == len(nodes) - 1


BAD = {
    b"\xff\xfe\x00\x01garbage": "invalid_input: the body is not JSON",
    b'{"kind": "ledger.nap", "args": {"second": 1}}': "invalid_arguments",
    b'{"kind": "ledger.nap", "domain": "acme"}': "names domain 'acme'",
    b'{"kind": "ledger.carry", "args": {"load": "' + b"x" * 300_000 + b'"}}': "too_large",
    b'{"kind": "ledger.carry", "args": {"load": "' + b"x" * 5_000_000 + b'"}}': "",
}
"""Messages that make no job, with what their dead letters say; of the last nobody reads enough to say anything."""
GUEST, GUESTS = "guest", "not-to-be-shown"


@pytest.fixture
def guarded() -> Iterator[activemqs.Broker]:
    """A broker with TLS, users and rights."""
    if reason := activemqs.installed():
        pytest.skip(f"needs ActiveMQ ({reason}): make engines")
    users = {activemqs.USER: activemqs.PASSWORD, GUEST: GUESTS}
    rights = dict.fromkeys(("callboard.>", "DLQ.>", "shop.>"), (activemqs.USER,))
    with activemqs.Broker(users=users, rights=rights, tls=True) as broker:
        yield broker


async def test_what_somebody_must_mend_is_said_once_and_the_rest_goes_on(
    deployment: Deployment, guarded: activemqs.Broker
) -> None:
    with contextlib.ExitStack() as open_:
        doors = [open_.enter_context(severing.Proxy(guarded.stomp)) for _ in range(3)]
        wrong, plain, guest = (
            by_way_of(guarded, doors[0]).replace(activemqs.PASSWORD, "wrong-word"),
            by_way_of(guarded, doors[1]).partition("?")[0],
            by_way_of(guarded, doors[2], GUEST),
        )
        await posting.up(deployment, guarded.url(), wrong, plain, guest)
        nodes = deployment.nodes()
        async with posting.to(deployment, guarded.url()) as post:
            for body in BAD:
                await post.send_raw(body)
            await post.send("nap", 20)
            letters = f"DLQ.{posting.MAIN}"
            await deployment.eventually(posting.holds(guarded, len(BAD), letters))
            await posting.judged(deployment, guarded)
        found = await asyncio.to_thread(guarded.browse, letters)
        reasons = sorted(each["StringProperties"].get("callboard-reason", "") for each in found)
        assert all(any(reason in each for each in reasons) for reason in BAD.values())
        assert reasons.count("") == 1
        mends = ("check user and password in its URL", "add ?tls=true", "give its user the right to read it")
        await deployment.eventually(lambda: all(len(posting.said(deployment, mend)) == 2 for mend in mends))
        assert len(posting.said(deployment, "bad message")) == len(BAD)
        assert not any(posting.said(deployment, word) for word in ("wrong-word", GUESTS, activemqs.PASSWORD, "Traceback"))
        assert deployment.nodes() == nodes


@pytest.mark.long
async def test_a_full_broker_is_said_in_a_line_and_replies_wait(deployment: Deployment) -> None:
    """Nobody can send into it. What it has is taken and acknowledged, and words about ends go out when there is room."""
    if reason := activemqs.installed():
        pytest.skip(f"needs ActiveMQ ({reason}): make engines")
    with activemqs.Broker(store_megabytes=4) as broker:
        await posting.up(deployment, broker.url())
        nodes = deployment.nodes()
        async with posting.to(deployment, broker.url()) as post:
            (id,) = await post.send("hold", answered=True, gate=str(deployment.gate))
            await post.send("nap", 50, seconds=0.5)
            await deployment.eventually(lambda: id in deployment.book.ids("began"))
            async with posting.to(deployment, broker.url()) as filler:
                with pytest.raises(errors.BrokerUnavailable, match="StorePercentUsage"):
                    while True:
                        await filler.send_raw(b"x" * 500_000, to="shop.full", seconds=2)
            deployment.release()
            sent = await deployment.run("submit", "ledger.nap", "--via", broker.url())
            assert (sent.code, sent.out, sent.err.count("\n")) == (exits.Exit.UNAVAILABLE, "", 1), sent
            assert "StorePercentUsage" in sent.err and errors.BrokerUnavailable.code in sent.err
            await deployment.eventually(lambda: deployment.book.ids("ended").issuperset(deployment.acknowledged), 30)
            await deployment.eventually(posting.holds(broker, 0), 30)
            assert not post.answers
            await asyncio.to_thread(broker.remove, "shop.full")
            await deployment.eventually(lambda: post.answers, 90)
            assert 1 <= len(posting.said(deployment, "replies wait")) <= 2
            _, verdict = await posting.judged(deployment, broker)
        assert not verdict.repeated
        assert deployment.nodes() == nodes
