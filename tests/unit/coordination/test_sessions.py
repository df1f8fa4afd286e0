"""Sessions live exactly as long as the processes that hold them, and their entries with them."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from callboard import errors
from callboard.coordination import sessions

HOLD = """
import sys
from pathlib import Path
from callboard.coordination import sessions
session = sessions.ProcessSessions(Path(sys.argv[1])).session(sys.argv[2])
session.put("nodes/" + sys.argv[2], b"from another process")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def engine(tmp_path):
    return sessions.ProcessSessions(tmp_path / "sessions")


@pytest.fixture
def holder(tmp_path):
    """Start a process that holds a session until its input ends."""
    made = []

    def start(name):
        child = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path / "sessions"), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        made.append(child)
        assert child.stdout.readline() == b"held\n"
        return child

    yield start
    for child in made:
        child.kill()
        child.communicate()


def test_entries_are_listed_while_the_session_lives(engine):
    session = engine.session("node-1")
    session.put("nodes/1", b"a")
    session.put("nodes/1", b"b")
    session.put("other", b"c")
    assert [(entry.path, entry.body, entry.session) for entry in engine.entries("nodes/")] == [("nodes/1", b"b", "node-1")]
    session.remove("nodes/1")
    session.remove("nodes/1")
    assert [entry.path for entry in engine.entries("")] == ["other"]
    session.close()
    session.close()
    assert engine.entries("") == [] and engine.sessions() == set()


def test_a_name_is_held_once(engine, tmp_path):
    session = engine.session("agent")
    with pytest.raises(errors.AlreadyRunning):
        engine.session("agent")
    with pytest.raises(errors.AlreadyRunning):
        sessions.ProcessSessions(tmp_path / "sessions").session("agent")
    session.close()
    engine.session("agent").close()


def test_a_name_held_by_another_process_is_refused(engine, holder):
    holder("agent")
    with pytest.raises(errors.AlreadyRunning):
        engine.session("agent")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_session_ends_with_its_process(engine, holder, number):
    child = holder("node-1")
    assert engine.sessions() == {"node-1"}
    assert [entry.body for entry in engine.entries("nodes/")] == [b"from another process"]
    child.send_signal(number)
    child.wait()
    assert engine.sessions() == set() and engine.entries("") == []
    again = engine.session("node-1")
    assert engine.entries("") == []  # What the dead one said is not said again.
    again.close()


def test_a_stopped_process_keeps_its_session(engine, holder):
    child = holder("node-1")
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    assert engine.sessions() == {"node-1"}


def test_asking_never_takes_the_lock(engine, tmp_path):
    """However often others ask, whoever wants the session gets it."""
    over = threading.Event()

    def ask():
        mine = sessions.ProcessSessions(tmp_path / "sessions")
        while not over.is_set():
            mine.sessions()

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    try:
        for _ in range(200):
            engine.session("agent").close()
    finally:
        over.set()
        for asker in askers:
            asker.join()


def test_a_forked_child_does_not_keep_it_alive(engine):
    session = engine.session("node-1")
    told, tell = os.pipe()
    wait, release = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(tell, b"x")
        os.read(wait, 1)
        os._exit(0)
    try:
        os.read(told, 1)  # It runs, and has closed what it must.
        session.forget()  # What the kernel does when a process dies: files stay, the lock goes.
        assert engine.sessions() == set()
    finally:
        os.write(release, b"x")
        os.waitpid(child, 0)
        for descriptor in (told, tell, wait, release):
            os.close(descriptor)


def test_what_the_dead_left_is_swept_and_what_lives_is_kept(engine, holder, tmp_path):
    child = holder("node-dead")
    child.kill()
    child.wait()
    live = engine.session("node-live")
    live.put("nodes/live", b"x")
    engine.sweep()
    assert sorted(path.name for path in (tmp_path / "sessions").iterdir()) == ["node-live.json", "node-live.lock"]
    assert engine.sessions() == {"node-live"}
    live.close()


def test_two_that_want_a_swept_name_do_not_both_get_it(engine, tmp_path):
    """A lock on a removed file is worth nothing; whoever gets one asks again."""
    alone, refused = [], []
    barrier = threading.Barrier(4)
    inside = threading.Lock()

    def want():
        mine = sessions.ProcessSessions(tmp_path / "sessions")
        barrier.wait()
        for _ in range(50):
            try:
                session = mine.session("agent")
            except errors.AlreadyRunning:
                refused.append(True)
                continue
            alone.append(inside.acquire(blocking=False))
            inside.release()
            session.close()

    wanters = [threading.Thread(target=want) for _ in range(4)]
    for wanter in wanters:
        wanter.start()
    for wanter in wanters:
        wanter.join()
    assert len(alone) + len(refused) == 200 and alone and all(alone)


def test_bad_names_and_places_are_refused(engine, tmp_path):
    with pytest.raises(errors.InvalidName):
        engine.session("../x")
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.DataUnusable, match="cannot be used"):
        sessions.ProcessSessions(tmp_path / "file")


def test_entries_that_make_no_sense_are_passed_over(engine, tmp_path):
    session = engine.session("node-1")
    (tmp_path / "sessions" / "node-1.json").write_bytes(b"{half")
    assert engine.entries("") == []
    session.put("nodes/1", b"\x00\xff")
    assert engine.entries("")[0].body == b"\x00\xff"
    session.close()
