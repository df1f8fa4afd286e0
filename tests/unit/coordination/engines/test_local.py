"""What only the local engine has: a directory, and what may be wrong with it."""

import asyncio
import contextlib
import fcntl
import os
import stat
import threading
import time

import pytest

from callboard import errors
from callboard.coordination import engine as seam
from callboard.coordination import engines
from callboard.coordination.engines.local import book, engine, lookout


class Place:
    """A directory, and sessions on it, each of an engine of its own."""

    def __init__(self, path):
        self.path = path
        self.made = []

    async def session(self, name):
        opened = engines.open(f"local://{self.path}", session_seconds=0.6)
        self.made.append(opened)
        return await opened.session(name)

    async def close(self):
        for each in self.made:
            await each.close()
            await each.close()

    def written(self):
        return {each: (each.stat().st_mtime_ns, each.stat().st_ino) for each in self.path.rglob("*")}


@pytest.fixture
async def place(tmp_path):
    made = Place(tmp_path / "a b" / "coordination")
    yield made
    await made.close()


async def test_files_are_for_their_owner_and_go_when_nobody_is_there(place):
    session = await place.session("node-a")
    await session.apply([seam.Create("x/y", b"")])
    assert stat.S_IMODE(place.path.stat().st_mode) | 0o700 == stat.S_IMODE(place.path.stat().st_mode)
    assert {stat.S_IMODE(each.stat().st_mode) for each in place.path.rglob("*") if each.is_file()} == {0o600}
    assert [each.name for each in (place.path / "sessions").iterdir()] == ["node-a.lock"]
    await session.close()
    assert list((place.path / "sessions").iterdir()) == []


async def test_nothing_is_written_at_rest_nor_by_a_confirmation(place, eventually):
    session, other = await place.session("node-a"), await place.session("node-b")
    number = (await session.apply([seam.Create("x/y", b"")]))[0]
    await other.entries("x")
    before = place.written()
    for _ in range(10):
        await session.apply([seam.Check("x/y", number), seam.Absent("x/z")])
        await other.entries("x")
        await other.sessions()
    with pytest.raises(errors.CoordinationConflict):
        await session.apply([seam.Create("x/new", b""), seam.Absent("x/y")])
    await other.end("node-nobody")
    after = place.written()
    lock = place.path / "lock"
    assert {path: after[path] for path in after if path != lock} == {path: before[path] for path in before if path != lock}


async def test_numbers_are_on_disk_before_anybody_hears_of_them(place, monkeypatch):
    """Synced: the content before the file takes its place, and the directory after it."""
    session = await place.session("node-a")
    synced, fsync = [], os.fsync

    def noted(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    await session.apply([seam.Create("x/y", b"")])
    assert synced == [str(place.path / "book.json.new"), str(place.path)]


async def test_a_lost_book_is_replaced_by_one_whose_numbers_are_greater(place, eventually):
    session = await place.session("node-a")
    number = (await session.apply([seam.Create("x/y", b"")]))[0]
    await session.close()
    os.truncate(place.path / "book.json", 7)
    with pytest.raises(errors.DataUnusable, match=r"damaged or foreign .* stop what runs here and remove it"):
        await place.session("node-a")
    (place.path / "book.json").unlink()
    await eventually(lambda: time.time() >= number)  # Those of a new book begin with the second in which it is made.
    again = await place.session("node-a")
    assert (await again.apply([seam.Create("x/y", b"")]))[0] > number


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[]", "damaged or foreign"),
        ('{"name": "something else"}', "damaged or foreign"),
        ('{"coordination": 2, "number": 1, "sessions": {}, "entries": {}, "changes": {}}', "version 2.*newer release"),
    ],
)
async def test_what_is_no_book_is_refused(place, text, match):
    place.path.mkdir(parents=True)
    (place.path / "book.json").write_text(text)
    with pytest.raises(errors.DataUnusable, match=match):
        await place.session("node-a")
    assert (place.path / "book.json").read_text() == text


async def test_a_place_that_is_none_is_refused(place, tmp_path):
    (tmp_path / "a b").write_text("a file")
    with pytest.raises(errors.DataUnusable, match="cannot be used"):
        await place.session("node-a")


async def test_a_book_that_is_damaged_later_is_an_outage(place, eventually):
    session = await place.session("node-a")
    states = []
    session.follow(states.append)
    number = (await session.apply([seam.Create("x/y", b"")]))[0]
    whole = (place.path / "book.json").read_bytes()
    (place.path / "book.json").write_bytes(b"{")
    with pytest.raises(errors.CoordinationUnavailable, match="damaged"):
        await session.apply([seam.Check("x/y", number)])
    await eventually(lambda: session.state is seam.State.SUSPENDED)
    (place.path / "book.json").write_bytes(whole)
    await eventually(lambda: session.state is seam.State.CONNECTED)
    assert await session.apply([seam.Check("x/y", number)]) == [number]
    assert seam.State.LOST not in states


async def test_a_process_frozen_with_the_lock_in_hand_delays_changes_for_a_bounded_time(place, monkeypatch):
    """Reading and confirming go on meanwhile, and the loop does."""
    monkeypatch.setattr(book, "WAIT_SECONDS", 0.2)
    session = await place.session("node-a")
    number = (await session.apply([seam.Create("x/y", b"")]))[0]
    with (place.path / "lock").open("r+b") as file:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, book._FLOCK.pack(fcntl.F_WRLCK, 0, 0, 0, 0))
        waiting = asyncio.create_task(session.apply([seam.Create("x/z", b"")]))
        assert await session.apply([seam.Check("x/y", number)]) == [number]
        assert len(await session.entries("x")) == 1
        with pytest.raises(errors.CoordinationUnavailable, match="s: wake or kill"):
            await waiting
    await session.apply([seam.Create("x/z", b"")])


def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    """It was forked while the lock was held, and closes its copy."""
    mine = book.Book(tmp_path / "coordination")
    begun = mine.begin("node-a")
    told, tell = os.pipe()
    wait, release = os.pipe()
    with mine._locked():
        child = os.fork()
        if child == 0:
            os.write(tell, b"x")
            os.read(wait, 1)
            os._exit(0)
    try:
        os.read(told, 1)  # It runs, and has closed what it must.
        held = [os.readlink(f"/proc/{child}/fd/{each}") for each in os.listdir(f"/proc/{child}/fd")]
        assert [each for each in held if each.startswith(str(tmp_path / "coordination"))] == []
    finally:
        os.write(release, b"x")
        os.waitpid(child, 0)
        for descriptor in (told, tell, wait, release):
            os.close(descriptor)
        begun.lock.close()


async def test_a_place_that_was_replaced_is_entered_anew(place, eventually):
    session = await place.session("node-a")
    states = []
    session.follow(states.append)
    await session.apply([seam.Create("x/y", b"")])
    place.path.rename(place.path.with_name("gone"))
    place.path.mkdir()
    (place.path / "sessions").mkdir()
    other = await place.session("node-b")
    await eventually(lambda: session.state is seam.State.CONNECTED and seam.State.LOST in states)
    assert await other.entries("x") == []
    assert set(await other.sessions()) == {"node-a", "node-b"}


async def test_it_hears_of_changes_when_the_kernel_has_no_watch_left(place, monkeypatch, eventually):
    def none_left(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(lookout, "Lookout", none_left)
    told, session, other = [], await place.session("node-a"), await place.session("node-b")
    session.watch("x", lambda: told.append(True))
    await other.apply([seam.Create("x/y", b"")])
    await eventually(lambda: told)


async def test_two_sessions_of_one_engine(tmp_path, eventually):
    opened = engine.LocalEngine(tmp_path, session_seconds=0.6)
    one, two = await opened.session("node-a"), await opened.session("node-b")
    told = []
    two.watch("x", lambda: told.append(True))
    await one.apply([seam.Create("x/y", b"")])
    await eventually(lambda: told)
    await one.close()
    assert await two.entries("x") == [] and set(await two.sessions()) == {"node-b"}
    await opened.close()


async def test_a_session_that_begins_while_the_engine_looks_misses_nothing(tmp_path, eventually, monkeypatch):
    opened = engine.LocalEngine(tmp_path, session_seconds=0.6)
    one = await opened.session("node-a")
    looking, gate, look = threading.Event(), threading.Event(), opened.book.look

    def late():
        looking.set()
        gate.wait(10)
        return look()

    monkeypatch.setattr(opened.book, "look", late)
    opened._stirred.set()
    await eventually(looking.is_set)
    two, told = await opened.session("node-b"), []
    two.watch("x", lambda: told.append(True))
    await one.apply([seam.Create("x/y", b"")])
    gate.set()
    await eventually(lambda: told)
    await opened.close()


async def test_a_session_whose_beginning_was_cut_off_does_not_live_on(place, eventually):
    await place.session("node-a")
    beginning = asyncio.create_task(place.session("node-b"))
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        beginning.cancel()
        await beginning
    await eventually(lambda: [each.name for each in (place.path / "sessions").iterdir()] == ["node-a.lock"])


async def test_the_dead_are_cleared_away_by_who_comes_next(place):
    session = await place.session("node-a")
    await session.apply([seam.Create("x/y", b"")])
    await session.close()
    other = await place.session("node-b")
    assert b"node-a" not in (place.path / "book.json").read_bytes()
    assert await other.entries("x") == []


async def test_changes_that_wait_for_a_frozen_process_do_not_keep_confirmations_waiting(place, monkeypatch):
    monkeypatch.setattr(book, "WAIT_SECONDS", 1.0)
    session = await place.session("node-a")
    (number,) = await session.apply([seam.Create("x/y", b"")])
    with (place.path / "lock").open("r+b") as file:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, book._FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        waiting = [asyncio.create_task(session.apply([seam.Create(f"x/{each}", b"")])) for each in range(8)]
        await asyncio.sleep(0)
        async with asyncio.timeout(0.5):
            assert await session.apply([seam.Check("x/y", number)]) == [number]
            assert len(await session.entries("x")) == 1
        assert not any(each.done() for each in waiting)
    await asyncio.gather(*waiting, return_exceptions=True)
