"""The ZooKeeper engine against a real ensemble: what the shipped suite cannot know of its inside, and what servers do to it."""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
import time

import pytest

from callboard import errors
from callboard.coordination import engine as seam
from callboard.coordination import engines
from callboard.coordination.engines.zookeeper import driver, layout, plan
from callboard.ensembles import connection, requests

SECONDS = 4.0
_roots = itertools.count()


@pytest.fixture
async def begin(zookeeper):
    """Begin sessions at a root of their own: `await begin("a")`."""
    root = f"/trial-{time.time_ns()}-{next(_roots)}"
    opened = []

    async def begin(name, seconds=SECONDS, hosts=None):
        url = f"zookeeper://{hosts or zookeeper.hosts}{root}"
        session = await engines.open(url, session_seconds=seconds).session(name)
        opened.append(session)
        return session

    begin.root = root
    yield begin
    for session in opened:
        await session.close()


async def test_the_granted_time_is_not_the_one_asked_for(begin):
    assert (await begin("short", seconds=0.1)).granted_seconds == pytest.approx(0.4)
    assert (await begin("long", seconds=60)).granted_seconds == pytest.approx(4.0)


async def test_a_number_is_the_transaction_of_the_creation(begin, zookeeper):
    session = await begin("a")
    (number,) = await session.apply([seam.Create("active/x", b"")])
    assert number == int(zookeeper.leader().ask("srvr").partition("Zxid: ")[2].split()[0], 16)
    (entry,) = await session.entries("active")
    assert entry == seam.Entry("active/x", b"", number, "a")


async def test_an_old_number_is_refused_though_the_version_is_the_same_again(begin):
    """The one who comes late knows the old entry by heart, so that nothing but the transaction can find it out."""
    late, other = await begin("late"), await begin("other")
    (old,) = await late.apply([seam.Create("active/x", b"late")])
    await other.apply([seam.Remove("active/x", old)])
    (new,) = await other.apply([seam.Create("active/x", b"other")])
    assert new > old
    for operation in (
        seam.Check("active/x", old),
        seam.Replace("active/x", b"late again", old),
        seam.Replace("active/x", b"late again", old, b"late"),
        seam.Remove("active/x", old),
    ):
        with pytest.raises(errors.CoordinationConflict) as refused:
            await late.apply([seam.Create("folder/new", b""), operation])
        assert refused.value.data == {"path": "active/x", "index": 1}
    assert await other.entries("active") == [seam.Entry("active/x", b"other", new, "other")]
    assert await other.entries("folder") == []


async def test_the_first_guard_that_failed_is_named_whoever_found_it(begin):
    session = await begin("a")
    (number,) = await session.apply([seam.Create("active/x", b"")])
    with pytest.raises(errors.CoordinationConflict) as refused:
        await session.apply([seam.Check("active/x", number), seam.Absent("active/x"), seam.Check("active/gone", 1)])
    assert refused.value.data == {"path": "active/x", "index": 1}


async def test_compare_and_set_within_one_apply(begin):
    session = await begin("a")
    (number,) = await session.apply([seam.Create("active/x", b"0", lasting=True)])
    steps = [seam.Replace("active/x", b"%d" % (n + 1), number, b"%d" % n) for n in range(3)]
    assert await session.apply(steps) == [number] * 3
    assert [entry.body for entry in await session.entries("active")] == [b"3"]


async def test_many_compare_and_set_at_once_and_none_is_lost(begin, eventually):
    sessions = [await begin(f"s{n}") for n in range(3)]
    (number,) = await sessions[0].apply([seam.Create("counters/x", b"0", lasting=True)])

    async def count(session):
        await eventually(lambda: session.entries("counters"))  # A server may lag behind the one that was written to.
        for _ in range(5):
            while True:
                (entry,) = await session.entries("counters")
                try:
                    await session.apply([seam.Replace("counters/x", b"%d" % (int(entry.body) + 1), number, entry.body)])
                    break
                except errors.CoordinationConflict:
                    pass

    async def counted():
        return [entry.body for entry in await sessions[0].entries("counters")] == [b"15"]

    await asyncio.gather(*map(count, sessions))
    await eventually(counted)  # It may lag behind that one, too.


async def test_a_confirmation_goes_through_the_majority(begin, zookeeper):
    session = await begin("a")
    (number,) = await session.apply([seam.Create("active/x", b"")])
    before = zookeeper.leader().ask("srvr")
    await session.apply([seam.Check("active/x", number)])
    assert zookeeper.leader().ask("srvr").partition("Zxid: ")[2] > before.partition("Zxid: ")[2]


async def test_what_was_applied_before_the_connection_broke_is_found_applied(begin, monkeypatch):
    session = await begin("a")
    ask = driver.Driver.ask
    broken = iter([True])

    async def deaf(self, request):
        answer = await ask(self, request)
        if next(broken, False):
            raise driver.Interrupted("the answer was lost")
        return answer

    monkeypatch.setattr(driver.Driver, "ask", deaf)
    numbers = await session.apply([seam.Absent("active/x"), seam.Create("active/x", b""), seam.Create("active/y", b"")])
    assert [entry.number for entry in await session.entries("active")] == numbers[1:] and numbers[0] == 0


async def test_what_may_have_been_applied_is_unknown(begin, monkeypatch):
    """A removal that finds nothing to remove when it is sent again: by whom it was removed nobody knows."""
    session = await begin("a")
    (number,) = await session.apply([seam.Create("active/x", b"")])
    ask = driver.Driver.ask
    broken = iter([True])

    async def deaf(self, request):
        answer = await ask(self, request)
        if next(broken, False):
            raise driver.Interrupted("the answer was lost")
        return answer

    monkeypatch.setattr(driver.Driver, "ask", deaf)
    with pytest.raises(errors.CoordinationUnavailable, match="unknown"):
        await session.apply([seam.Remove("active/x", number)])
    assert await session.entries("active") == []


async def test_too_much_is_refused_and_the_connection_stays(begin):
    session = await begin("a")
    turns = []
    session.follow(turns.append)
    with pytest.raises(errors.TooLarge):
        await session.apply([seam.Create("big/x", b"x" * (600 << 10))])
    many = [seam.Create(f"big/{n:05}-{'x' * 60}", b"") for n in range(6000)]
    with pytest.raises(errors.TooLarge) as refused:
        await session.apply(many)
    assert refused.value.data == {"limit": 1_000_000}
    assert len(set(await session.apply(many[:1000]))) == 1
    assert len(await session.entries("big")) == 1000
    assert turns == []


async def test_the_leader_is_killed_and_writes_go_on(begin, zookeeper, record_property):
    session = await begin("a")
    (number,) = await session.apply([seam.Create("active/x", b"")])
    zookeeper.leader().kill()
    began = time.monotonic()
    (later,) = await session.apply([seam.Create("active/y", b"")])
    record_property("figure", f"ZooKeeper's leader killed, written again after {time.monotonic() - began:.2f} s")
    assert later > number
    assert [(entry.path, entry.session) for entry in await session.entries("active")] == [("active/x", "a"), ("active/y", "a")]


async def test_no_majority_and_back(begin, zookeeper, eventually):
    session, turns, changes = await begin("a", seconds=1.0), [], []
    (number,) = await session.apply([seam.Create("lasting/x", b"", lasting=True)])
    session.follow(turns.append)
    session.watch("lasting", lambda: changes.append(session.state))
    await eventually(lambda: changes)
    await asyncio.to_thread(zookeeper.stop)
    await eventually(lambda: turns[-1:] == [seam.State.SUSPENDED], 1)
    began = time.monotonic()
    with pytest.raises(errors.CoordinationUnavailable):
        await session.apply([seam.Check("lasting/x", number)])
    with pytest.raises(errors.CoordinationUnavailable):
        await session.entries("lasting")
    assert time.monotonic() - began < 4
    changes.clear()
    await asyncio.to_thread(zookeeper.start)
    await eventually(lambda: turns[-1] is seam.State.CONNECTED and changes)
    assert await session.apply([seam.Check("lasting/x", number)]) == [number]
    (later,) = await session.apply([seam.Create("active/x", b"")])
    assert later > number


async def test_a_frozen_server_is_left_before_the_session_is_in_doubt(begin, zookeeper, record_property):
    followers = zookeeper.followers()
    session = await begin("a", seconds=4.0, hosts=",".join(f"127.0.0.1:{each.port}" for each in followers))
    (number,) = await session.apply([seam.Create("active/x", b"")])
    (its,) = [each for each in followers if "sid=" in each.ask("cons")]
    its.freeze()
    began = time.monotonic()
    await session.apply([seam.Check("active/x", number)])
    took = time.monotonic() - began
    record_property("figure", f"a ZooKeeper server frozen, confirmed elsewhere after {took:.2f} s")
    assert took < session.granted_seconds * 2 / 3


async def test_a_session_that_expired_while_its_process_was_frozen(begin, zookeeper, eventually):
    observer = await begin("observer")
    url = f"zookeeper://{zookeeper.hosts}{begin.root}"
    command = [sys.executable, "-m", "tests.engines.holder", url, "frozen", "active/x", "2"]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    try:
        number = int(await process.stdout.readline())
        process.stdin.write(b"\n")
        assert await process.stdout.readline() == b"confirmed\n"
        changes = []
        observer.watch("active", lambda: changes.append(True))
        process.send_signal(signal.SIGSTOP)

        async def expired():
            return "frozen" not in await observer.sessions() and await observer.entries("active") == []

        await eventually(expired, 20)
        assert changes
        (later,) = await observer.apply([seam.Create("active/x", b"mine")])
        process.send_signal(signal.SIGCONT)
        process.stdin.write(b"\n")
        assert await process.stdout.readline() in (b"coordination_unavailable\n", b"coordination_conflict\n")
        assert await observer.apply([seam.Check("active/x", later)]) == [later] and later > number

        async def again():
            return "frozen" in await observer.sessions()

        await eventually(again)
        process.stdin.write(b"\n")
        assert await process.stdout.readline() == b"coordination_conflict\n"
    finally:
        process.kill()
        await process.wait()


async def test_a_session_that_another_one_ended(begin, eventually):
    dead, agent, turns = await begin("dead"), await begin("agent"), []
    dead.follow(turns.append)
    await dead.apply([seam.Create("active/x", b""), seam.Create("nodes/x", b""), seam.Create("lasting/x", b"", lasting=True)])
    await agent.end("dead")
    assert await agent.entries("active") == await agent.entries("nodes") == []
    assert len(await agent.entries("lasting")) == 1
    await eventually(lambda: turns == [seam.State.LOST, seam.State.CONNECTED])
    assert len(await dead.apply([seam.Create("active/x", b"")])) == 1
    await agent.end("nobody")


async def test_a_life_that_began_just_when_the_connection_was_said_to_be_lost_keeps_the_name_from_nobody(begin, monkeypatch):
    mine = await begin("mine")
    entered, told = mine._entered, []

    def lost():
        mine._linked(driver.Link.LOST)
        mine._linked(driver.Link.CONNECTED)

    async def late(holder):
        made = await entered(holder)
        if made is not None and not told:
            told.append(holder)
            lost()
        return made

    monkeypatch.setattr(mine, "_entered", late)
    lost()
    assert len(await mine.apply([seam.Create("active/x", b"")])) == 1
    assert told and list(await mine.sessions()) == ["mine"]


async def test_what_a_dead_process_sent_last_comes_too_late(begin):
    dead, agent = await begin("dead"), await begin("agent")
    before = dead._holder
    await agent.end("dead")
    operations = [seam.Create("active/late", b"")]
    made = plan.make(layout.Layout(begin.root), operations, before, plan.created(operations, before, lambda: "late.0"), {})
    assert made.failure(await dead._driver.ask(dead._driver.multi(made.steps))) == (plan.SESSION, requests.NO_NODE)
    assert await agent.entries("active") == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_the_library_gives_up_and_is_started_again(begin, monkeypatch):
    session, turns = await begin("a"), []
    session.follow(turns.append)
    broken = iter([True])
    read = connection._Handler._read_socket

    def misunderstood(self, seconds):
        if next(broken, False):
            raise RuntimeError("an answer that makes no sense")
        return read(self, seconds)

    monkeypatch.setattr(connection._Handler, "_read_socket", misunderstood)
    (number,) = await session.apply([seam.Create("active/x", b"")])
    assert turns == [seam.State.SUSPENDED, seam.State.CONNECTED], "the session goes on"
    assert await session.apply([seam.Check("active/x", number)]) == [number]


async def test_many_entries_of_a_dead_session_go(begin):
    dead, agent = await begin("dead", seconds=4), await begin("agent", seconds=4)
    for part in range(2):
        await dead.apply([seam.Create(f"many/{part}-{n}", b"") for n in range(550)])
    await agent.end("dead")
    assert await agent.entries("many") == []


async def test_an_entry_that_was_deleted_by_hand_holds_nothing_up(begin, eventually):
    dead, agent, turns = await begin("dead"), await begin("agent"), []
    dead.follow(turns.append)
    (number,) = await dead.apply([seam.Create("active/x", b"")])
    await agent._driver.ask(requests.Multi([requests.delete(f"{begin.root}/entries/active/x")]))
    with pytest.raises(errors.CoordinationConflict):
        await dead.apply([seam.Replace("active/x", b"", number)])
    await agent.end("dead")
    await eventually(lambda: turns == [seam.State.LOST, seam.State.CONNECTED])
    assert len(await agent.apply([seam.Create("active/x", b"")])) == 1


async def test_a_name_is_free_when_its_session_is_closed(begin):
    first = await begin("a")
    with pytest.raises(errors.AlreadyRunning):
        await begin("a")
    await first.close()
    await first.close()
    second = await begin("a")
    assert list(await second.sessions()) == ["a"]


async def test_a_watch_hears_of_content_and_of_sessions(begin, eventually):
    watcher, other, heard = await begin("watcher"), await begin("other"), []
    (number,) = await other.apply([seam.Create("active/x", b"1")])
    watcher.watch("active", lambda: heard.append("active"))
    ends = watcher.watch("sessions", lambda: heard.append("sessions"))
    await eventually(lambda: {"active", "sessions"} <= set(heard))
    for body in (b"2", b"3", b"4"):
        heard.clear()
        await other.apply([seam.Replace("active/x", body, number)])
        await eventually(lambda: "active" in heard)
    heard.clear()
    third = await begin("third")
    await eventually(lambda: "sessions" in heard)
    ends()
    heard.clear()
    await third.close()
    await other.close()
    await eventually(lambda: "active" in heard)
    assert "sessions" not in heard


async def test_nobody_there_is_said_in_time(zookeeper):
    zookeeper.stop()
    began = time.monotonic()
    with pytest.raises(errors.CoordinationUnavailable):
        await engines.open(zookeeper.url("/nobody"), session_seconds=1.0).session("a")
    assert time.monotonic() - began < 6


async def test_a_session_is_closed_in_time_though_nobody_answers(begin, zookeeper):
    session = await begin("a", seconds=2.0)
    for member in zookeeper.members:
        member.freeze()
    began = time.monotonic()
    await session.close()
    assert time.monotonic() - began < 4
