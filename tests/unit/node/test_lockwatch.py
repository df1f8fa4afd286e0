"""Who holds the write lock and does not move is killed; everyone else is not. Real locks, real processes."""

import os
import signal
import subprocess
import sys
import time

import pytest
from structlog import testing

from callboard.jobs.engines.sqlite import lock
from callboard.node import liveness, lockwatch

QUICK = liveness.LockLimits(stopped_seconds=0.05, held_seconds=0.15, late_seconds=60)
HOLD = """
import sys
from pathlib import Path
from callboard.jobs.engines.sqlite import lock
made = lock.WriteLock(Path(sys.argv[1]))
with made:
    print("held", flush=True)
    sys.stdin.readline()
print("free", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "callboard.db.lock"


@pytest.fixture
def holder(path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as made:
        assert made.stdout.readline() == "held\n"
        yield made
        made.kill()


def watch_for(path, seconds, limits=QUICK, over=lambda: False):
    watch = lockwatch.LockWatch(path, limits)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not over():
        watch.look()
        time.sleep(0.005)


def stopped(made):
    made.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, made.pid, os.WSTOPPED | os.WNOWAIT)


def test_a_stopped_holder_is_killed(path, holder):
    stopped(holder)
    patient = liveness.LockLimits(stopped_seconds=QUICK.stopped_seconds, held_seconds=60, late_seconds=60)
    watch_for(path, 30, patient, lambda: holder.poll() is not None)
    assert holder.poll() == -signal.SIGKILL
    with lock.WriteLock(path):  # The kernel has freed it.
        pass


def test_a_holder_without_progress_is_killed(path, holder):
    watch_for(path, 0.1)
    assert holder.poll() is None
    with testing.capture_logs() as logs:
        watch_for(path, 30, over=lambda: holder.poll() is not None)
    assert holder.poll() == -signal.SIGKILL
    assert "runs_in='process'" in logs[0]["mend"]


def test_a_stopped_process_that_holds_nothing_is_left_alone(path, holder):
    holder.stdin.write("\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == "free\n"
    stopped(holder)
    watch_for(path, 0.25)
    assert holder.poll() is None


def test_this_process_is_never_judged(path):
    with lock.WriteLock(path):
        watch_for(path, 0.25)


def test_a_name_that_a_dead_holder_left_is_nobody(path, holder):
    holder.kill()
    holder.wait()
    assert lock.holder(path).pid == holder.pid
    watch_for(path, 0.25)


def test_it_watches_by_itself_and_closes(path, holder, monkeypatch):
    monkeypatch.setattr(lockwatch, "LOOK_SECONDS", 0.01)
    watch = lockwatch.LockWatch(path, QUICK)
    watch.start()
    stopped(holder)
    assert holder.wait(5) == -signal.SIGKILL
    watch.close()


def test_no_lock_file_is_nobody(path):
    watch_for(path, 0.01)
