"""Who is dead when nobody announced it: by sessions, records and claims. Real files; only the nursery is a stand-in."""

import json
import os

import msgspec
import pytest

from callboard import settings
from callboard.jobs import engine, model, submission
from callboard.jobs import queue as queues
from callboard.jobs.engines import memory
from callboard.node import entries, layout, survivors

ONE, TWO = "1" * 32, "2" * 32


class Nursery:
    """Notes who is adopted."""

    def __init__(self):
        self.wards = {}

    def adopt(self, record, process, *, leaving):
        assert not leaving
        self.wards[record.incarnation] = process


class Room:
    def __init__(self, directory):
        self.place = layout.Layout(directory)
        self.place.prepare()
        self.coordination = self.place.sessions()
        self.nursery = Nursery()
        self.dead = []

    def survivors(self, *, owns_store=True, start_seconds=60.0):
        return survivors.Survivors(
            self.coordination,
            self.place,
            self.nursery,
            self.dead.append,
            owns_store=owns_store,
            store_url=settings.Settings().store_url,
            start_seconds=start_seconds,
        )

    def record(self, incarnation, store=None):
        given = settings.load(flags={"store.url": store})
        made = layout.NodeRecord(incarnation=incarnation, role="worker", directory="/", settings=given)
        self.place.record(incarnation).write_bytes(msgspec.json.encode(made))
        return made

    def session(self, incarnation):
        return self.coordination.session(layout.session_name(incarnation))


@pytest.fixture
def room(tmp_path):
    return Room(tmp_path)


@pytest.fixture
async def queue():
    made = queues.Queue(memory.open("memory:"))
    await made.start()
    yield made
    await made.stop()


async def claim(queue, incarnation):
    job = submission.build(submission.Submission(kind="a.b"), {}, queue.clock.now())
    await queue.submit([job])
    take = engine.Take("main", "default", model.Lane.LONG, (("a.b", (1,)),), 1)
    assert (await queue.exchange([], bytes.fromhex(incarnation), [take], 1))[1]


def test_a_node_with_a_record_and_a_session_is_adopted_once_it_says_who_it_is(room):
    record, session = room.record(ONE), room.session(ONE)
    found = room.survivors()
    found.look()
    assert room.nursery.wards == {}
    entries.put(session, record, entries.made(record))
    found.look()
    assert room.nursery.wards[ONE].pid == os.getpid()
    session.close()


def test_of_two_for_one_place_the_one_that_has_started_comes_first_then_the_newest(room):
    """As when an agent died while a successor was starting: that one may never be ready."""
    sessions = []
    for number, roles in enumerate(([{"role": "worker"}], [{"role": "worker"}], []), 1):
        record, session = room.record(str(number) * 32), room.session(str(number) * 32)
        entry = msgspec.json.decode(entries.made(record)) | {"roles": roles}
        entries.put(session, record, msgspec.json.encode(entry))
        sessions.append(session)
    room.survivors().look()
    assert list(room.nursery.wards) == ["2" * 32, "1" * 32, "3" * 32]
    for session in sessions:
        session.close()


def test_a_users_own_process_is_not_adopted(room):
    session = room.session(ONE)
    session.put(layout.NODES + ONE, json.dumps({"pid": 1, "pid_started": 1, "started_at": ""}).encode())
    found = room.survivors()
    found.look()
    assert room.nursery.wards == {} and room.dead == []
    session.close()
    found.look()
    assert room.dead == [bytes.fromhex(ONE)]


def test_a_ward_without_a_session_is_the_nurserys_matter(room):
    record, session = room.record(ONE), room.session(ONE)
    entries.put(session, record, entries.made(record))
    found = room.survivors()
    found.look()
    session.close()
    found.look()
    assert room.dead == []


async def test_claims_without_a_session_end_and_others_do_not(room, queue):
    await claim(queue, ONE)
    await claim(queue, TWO)
    session = room.session(TWO)
    await room.survivors().sweep(queue)
    assert room.dead == [bytes.fromhex(ONE)]
    session.close()


async def test_a_ward_lives_even_if_its_session_cannot_be_seen(room, queue):
    await claim(queue, ONE)
    room.nursery.wards[ONE] = object()
    await room.survivors().sweep(queue)
    assert room.dead == []


async def test_in_a_store_that_others_share_only_the_own_dead_are_spoken_for(room, queue):
    await claim(queue, ONE)
    await claim(queue, TWO)
    room.record(TWO)
    await room.survivors(owns_store=False).sweep(queue)
    assert room.dead == [bytes.fromhex(TWO)]


async def test_the_dead_of_late_are_answered_for_until_two_sweeps_find_nothing_of_them(room, queue):
    """A database may commit a claim after the death of who made it, and after its claims were ended."""
    room.record(ONE)
    found = room.survivors(owns_store=False)
    found.bury(ONE)
    await found.sweep(queue)
    assert room.place.record(ONE).exists() and ONE in found.known
    await claim(queue, ONE)
    await found.sweep(queue)
    assert room.dead == [bytes.fromhex(ONE)] and room.place.record(ONE).exists()
    await queue.expire([bytes.fromhex(ONE)])
    await found.sweep(queue)
    assert not room.place.record(ONE).exists() and ONE not in found.known


async def test_when_the_agent_stops_the_dead_are_forgotten(room):
    room.record(ONE)
    found = room.survivors()
    found.bury(ONE)
    found.close()
    assert not room.place.record(ONE).exists() and ONE not in found.known


async def test_old_records_of_the_dead_go_and_young_ones_stay(room, queue):
    room.record(ONE)
    await room.survivors(start_seconds=60).sweep(queue)
    assert room.place.record(ONE).exists()
    await room.survivors(start_seconds=-1).sweep(queue)
    assert not room.place.record(ONE).exists()


async def test_the_record_of_one_who_worked_on_another_store_is_kept(room, queue):
    room.record(ONE, store="mysql://callboard:secret@db/jobs")  # Its claims are there: this directory may serve it again.
    room.record(TWO)
    await room.survivors(owns_store=False, start_seconds=-1).sweep(queue)
    assert room.place.record(ONE).exists() and not room.place.record(TWO).exists()
