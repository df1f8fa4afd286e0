"""Coordination by a database, against real servers: what the shipped suite cannot know of its inside, and what it costs."""

from __future__ import annotations

import asyncio
import random
import resource
import signal
import sys
import threading
import time

import pytest

from callboard import databases, errors
from callboard.coordination import engine as seam
from callboard.coordination import engines
from callboard.coordination.engines.sql import ages, desk, tables
from callboard.testing import severing
from tests.conformance import sql_bench
from tests.engines import test_zookeeper_epochs as epochs

SECONDS = 2.0
EPOCH_SECONDS = 2.0
OFFICE = "active/x"
PRODUCTS = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in ("mariadb", "postgresql")]
LONG_ON_ONE = pytest.mark.parametrize(
    "server",
    [PRODUCTS[0], pytest.param("postgresql", marks=[pytest.mark.xdist_group("postgresql"), pytest.mark.long])],
    indirect=True,
)
"""For what takes its time and is the same on all of them: on one, with `--long` on all."""


@pytest.fixture(params=PRODUCTS)
def server(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
async def url(server):
    await asyncio.to_thread(sql_bench.clear, server.url())
    return server.url()


@pytest.fixture
async def begin(url):
    """Begin sessions in an empty database: `await begin("a")`, or elsewhere: `await begin("a", url=…)`."""
    opened = []

    async def begin(name, seconds=SECONDS, url=url):
        session = await engines.open(url, session_seconds=seconds).session(name)
        opened.append(session)
        return session

    yield begin
    for session in opened:
        await session.close()


def product(url):
    return url.partition(":")[0]


def life(beat, *, name="a", granted_ms=3000):
    return ages.Life(name, b"token", beat, granted_ms)


def looks(*answers):
    """Let an observer see beats at times: `looks((0.0, 1), …)`; return when it would have ended the session."""
    seen = ages.Ages()
    return [at for at, beat in answers if seen.look([life(beat)], at)]


def test_a_session_is_over_when_its_beat_was_the_same_for_the_granted_time():
    every = [(tick / 5, 1) for tick in range(16)]
    assert looks(*every) == [3.0]
    assert looks(*every[:10], (2.0, 2), *((tick / 5, 2) for tick in range(11, 25))) == []


def test_another_life_of_the_name_has_a_time_of_its_own():
    seen = ages.Ages()
    seen.look([life(1)], 0.0)
    for tick in range(1, 15):
        seen.look([life(1)], tick / 5)
    assert seen.look([ages.Life("a", b"other", 1, 3000)], 3.0) == []


def test_nothing_is_held_against_others_while_the_observer_had_no_answer():
    """After an outage they are given as long as it took, but not more than the granted time, and then their granted time."""
    assert looks((0.0, 1), *((2.0 + tick / 5, 1) for tick in range(30))) == [7.0, 7.2, 7.4, 7.6, 7.8]
    after = [(60.0 + tick / 5, 1) for tick in range(31)]
    assert looks((0.0, 1), *after) == [66.0]


def test_an_answer_that_came_late_counts_as_an_outage():
    early = [(tick / 5, 1) for tick in range(14)]
    assert looks(*early, (3.9, 1), (4.1, 1), (5.0, 1), (5.9, 1)) == []


async def test_what_is_asked_for_is_granted_but_not_less_than_a_second(begin):
    assert (await begin("short", seconds=0.1)).granted_seconds == 1.0
    assert (await begin("long", seconds=4)).granted_seconds == 4.0


async def test_the_tables_are_made_by_whoever_comes_first(begin):
    sessions = await asyncio.gather(*(begin(f"node-{number}") for number in range(8)))
    assert set(await sessions[0].sessions()) == {session.name for session in sessions}


async def test_tables_of_a_newer_release_are_left_alone(begin, url):
    await (await begin("a")).close()
    on = databases.open(url).connect()
    on.exec_driver_sql("UPDATE callboard_coordination SET min_reader = 2")
    on.commit()
    on.close()
    with pytest.raises(errors.DataUnusable, match="use the newer release"):
        await begin("b")


async def test_a_wrong_password_is_said_in_one_line(begin, url):
    with pytest.raises(errors.DataUnusable) as refused:
        await begin("a", url=url.replace("open-sesame", "open-barley"))
    assert "open-barley" not in refused.value.message and "\n" not in refused.value.message


@LONG_ON_ONE
async def test_nobody_there_is_said_in_time(begin, server):
    server.kill()
    began = time.monotonic()
    with pytest.raises(errors.CoordinationUnavailable):
        await begin("a", url=server.url())
    assert time.monotonic() - began < 6


@LONG_ON_ONE
async def test_a_client_that_is_frozen_in_a_change_holds_nobody_up_for_long(begin, url, record_property):
    """Confirmations go on, late once; changes wait until the server has ended its connection."""
    session = await begin("a", seconds=5)
    (number,) = await session.apply([seam.Create(OFFICE, b"")])
    frozen = desk.Desk(databases.open(url), "frozen", 3.0)
    wire = frozen._line._wired()
    wire.begin_plain()
    frozen._book._held(wire.on)
    began = time.monotonic()
    change = asyncio.create_task(session.apply([seam.Create("x/y", b"")]))
    waits = []
    while not change.done():
        sent = time.monotonic()
        assert await session.apply([seam.Check(OFFICE, number)]) == [number]
        waits.append(time.monotonic() - sent)
    await change
    took = time.monotonic() - began
    record_property("figure", f"{product(url)}: frozen in a change: others wait {took:.1f} s, confirmations {max(waits):.2f} s")
    assert took < tables.IDLE_SECONDS + 3
    assert len(waits) > 10 and sorted(waits)[-2] < tables.PATIENCE_SECONDS + 0.8
    frozen.close()


@LONG_ON_ONE
async def test_one_that_is_frozen_in_a_beat_is_ended_all_the_same(begin, url, eventually):
    observer = await begin("observer")
    frozen = desk.Desk(databases.open(url), "frozen", SECONDS)
    frozen.begin(b"t" * 16)
    wire = frozen._line._wired()
    wire.begin_plain()
    frozen._book.beat(wire.on, "frozen", b"t" * 16)

    async def over():
        await observer.apply([seam.Absent("x/y")])
        return set(await observer.sessions()) == {"observer"}

    await eventually(over, tables.IDLE_SECONDS + SECONDS + 3)
    frozen.close()


async def test_what_nobody_waits_for_any_more_is_not_applied_later(begin, server, eventually):
    session = await begin("a")
    server.freeze()
    with pytest.raises(errors.CoordinationUnavailable):
        await session.apply([seam.Create("x/late", b"", lasting=True)])
    server.cont()
    await eventually(lambda: session.state is seam.State.CONNECTED)
    await session.apply([seam.Create("x/now", b"")])
    assert [entry.path for entry in await session.entries("x")] == ["x/now"]


async def test_answers_that_are_lost_at_commit_leave_nothing_in_doubt(begin, url, server):
    """Whether the server has committed or has not heard of it: what is applied is applied once, and its number known."""
    numbers = []
    with severing.Proxy(server.port) as proxy:
        session = await begin("a", seconds=5, url=url.replace(str(server.port), str(proxy.port)))
        for turn in range(8):
            proxy.cut_at(b"COMMIT", answered=turn % 2 == 0)
            numbers += await session.apply([seam.Create(f"x/{turn}", b"")])
        assert proxy.cuts == 8
        assert [(entry.path, entry.number) for entry in await session.entries("x")] == [
            (f"x/{turn}", number) for turn, number in enumerate(numbers)
        ]
        await session.close()
    assert numbers == sorted(set(numbers))


@LONG_ON_ONE
async def test_an_outage_of_the_database_ends_no_session(begin, url, server, eventually, record_property):
    sessions = [await begin(f"node-{number}") for number in range(3)]
    states = []
    for session in sessions:
        session.follow(states.append)
        await session.apply([seam.Create(f"x/{session.name}", b"")])
    server.freeze()
    await asyncio.sleep(1.5 * SECONDS)
    server.kill()
    await eventually(lambda: all(each.state is seam.State.SUSPENDED for each in sessions))
    server.start()
    began = time.monotonic()
    await eventually(lambda: all(each.state is seam.State.CONNECTED for each in sessions))
    record_property("figure", f"{product(url)}: all sessions back {time.monotonic() - began:.2f} s after its start")
    await asyncio.sleep(1.5 * SECONDS)
    assert seam.State.LOST not in states
    assert len(await sessions[0].entries("x")) == 3


@LONG_ON_ONE
async def test_the_name_of_a_dead_process_is_free_when_its_time_is_over(begin, url):
    """Though nobody else was there to see it: who wants the name watches the row itself."""
    dead = desk.Desk(databases.open(url), "same", SECONDS)
    dead.prepare()
    dead.begin(b"t" * 16)
    dead.close()
    began = time.monotonic()
    session = await begin("same")
    assert SECONDS <= time.monotonic() - began < SECONDS + 3
    with pytest.raises(errors.AlreadyRunning):
        await begin("same")
    assert session.state is seam.State.CONNECTED


def test_a_session_that_nobody_closed_ends_with_its_loop(server):
    """Its thread does not keep alive what nobody holds any more."""

    async def forget():
        await engines.open(server.url(), session_seconds=SECONDS).session("forgotten")
        return [each for each in threading.enumerate() if each.name == "coordination-forgotten"]

    (thread,) = asyncio.run(forget())
    thread.join(30)
    assert not thread.is_alive()


async def test_many_change_things_at_once(begin, url, record_property):
    sessions = [await begin(f"node-{number}", seconds=5) for number in range(8)]
    began = time.monotonic()

    async def create(session):
        return [(await session.apply([seam.Create(f"x/{session.name}.{turn}", b"")]))[0] for turn in range(10)]

    numbers = sorted(number for made in await asyncio.gather(*map(create, sessions)) for number in made)
    record_property("figure", f"{product(url)}: {80 / (time.monotonic() - began):.0f} changes/s by 8 sessions at once")
    assert len(set(numbers)) == 80
    assert len(await sessions[0].entries("x")) == 80


@LONG_ON_ONE
async def test_a_killed_process_is_gone_after_the_granted_time(begin, url, eventually, record_property):
    observer, changes = await begin("observer", seconds=3), []
    command = [sys.executable, "-m", "tests.engines.holder", url, "killed", OFFICE, "3"]
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    await process.stdout.readline()
    await eventually(lambda: observer.entries("active"))
    observer.watch("active", lambda: changes.append(time.monotonic()))
    process.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    await process.wait()

    async def gone():
        return await observer.entries("active") == []

    await eventually(gone, 20)
    await eventually(lambda: changes)
    took = changes[-1] - killed
    record_property("figure", f"{product(url)}: killed process gone, and told, after {took:.2f} s, granted 3 s")
    assert 2 < took < 10


async def test_a_session_at_rest_costs_little(begin, url, record_property):
    await begin("a", seconds=3)
    used, began = _cpu(), time.monotonic()
    await asyncio.sleep(1.5)
    share = (_cpu() - used) / (time.monotonic() - began)
    record_property("figure", f"{product(url)}: a session at rest takes {share:.2%} of a core")
    assert share < 0.02


@LONG_ON_ONE
async def test_no_write_under_an_old_epoch(begin, url, server, record_property):
    """Many take an office from each other, while the database dies and freezes: see `test_zookeeper_epochs`."""

    async def trouble():
        await asyncio.sleep(EPOCH_SECONDS / 4)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await asyncio.sleep(EPOCH_SECONDS / 4)
        server.freeze()
        await asyncio.sleep(EPOCH_SECONDS / 4)
        server.cont()

    sessions = [await begin(f"taker-{number}", seconds=2) for number in range(3)]
    record_property("figure", f"{product(url)}: {await take_turns(sessions, trouble)}")


@pytest.mark.xdist_group("galera")
@pytest.mark.parametrize("killed", [pytest.param(0, id="calm"), pytest.param(1, id="killed", marks=pytest.mark.long)])
async def test_no_write_under_an_old_epoch_whichever_node_it_goes_through(galera, killed, record_property):
    """The same where each session writes through another node, one of which may die."""

    async def trouble():
        await asyncio.sleep(EPOCH_SECONDS / 3)
        for member in galera.members[:killed]:
            await asyncio.to_thread(member.kill)

    await asyncio.to_thread(sql_bench.clear, galera.url())
    hosts = galera.hosts.split(",")
    sessions = []
    for first in range(3):
        url = galera.url().replace(galera.hosts, ",".join([*hosts[first:], *hosts[:first]]))
        sessions.append(await engines.open(url, session_seconds=4.0).session(f"taker-{first}"))
    try:
        record_property("figure", f"galera: {await take_turns(sessions, trouble)}")
    finally:
        for session in sessions:
            await session.close()


async def take_turns(sessions, trouble):
    """Let sessions take an office and write under their epochs, old ones too, through trouble; return what was done."""
    chance = random.Random(20)
    (book,) = await sessions[0].apply([seam.Create(epochs.BOOK, b"0", lasting=True)])
    takers = [epochs.Taker(session, book, chance) for session in sessions]
    over = time.monotonic() + EPOCH_SECONDS

    def enough():
        return sum(len(taker.writes) for taker in takers) > 10 or time.monotonic() > over + 20

    async def go_on(taker):
        while time.monotonic() < over or not enough():
            await taker.act()
            await asyncio.sleep(0)

    await asyncio.gather(trouble(), *map(go_on, takers))
    writes = [write for taker in takers for write in taker.writes]
    taken = [epoch for taker in takers for epoch in taker.epochs]
    assert [write for write in writes if write[0] > write[1]] == []
    assert len(set(taken)) == len(taken) > 10 and len(writes) > 10
    assert all(taker.epochs == sorted(taker.epochs) for taker in takers)
    return f"{len(taken)} epochs, {len(writes)} guarded writes, none under an old one"


def _cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
