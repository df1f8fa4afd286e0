"""Nodes as processes: started, adopted, watched from outside, ended. Each is a `Ward` of the agent until it is dead.

A ward only observes and signals; `nursery` decides what is to run, `liveness` who must die. All on the agent's event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from callboard.kit import beat, files
from callboard.node import layout, liveness, processes, report

STOP_SECONDS: Final = 5.0
"""What a node may need to stop beyond the grace time of its handlers."""
HURRY_SECONDS: Final = 10.0
"""What it may need once its handlers' grace is cut off: two seconds to end them, some to hand their jobs back."""

log = structlog.get_logger()


class Ward:
    """One node's process. `ended(ward)` is called once, on the loop, when the kernel says that it is dead."""

    def __init__(
        self,
        record: layout.NodeRecord,
        process: processes.Process,
        pidfd: int,
        ended: Callable[[Ward], None],
        child: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self.record = record
        self.process = process
        self.leaving = False
        """Asked to stop, or killed: its end is no surprise."""
        self.dead = asyncio.Event()
        self.ready: asyncio.Future[report.Report | None] = asyncio.get_running_loop().create_future()
        """What it said when it had started, None when it ended without a word."""
        self.exit_code: int | None = None
        """How it ended: negative for a signal, None while it lives and for one that was adopted."""
        self.born = time.monotonic()
        self._asked_at: float | None = None
        self._pidfd = pidfd
        self._child = child
        self._ended = ended
        self._beat: beat.Beat | None = None
        self._judgement: liveness.Record | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(pidfd, self._over)

    @property
    def adopted(self) -> bool:
        return self._child is None

    def judge(self, place: layout.Layout, now: int, limits: liveness.Limits) -> str | None:
        """Look at the node; return why it must be killed, or None. `now` is CLOCK_BOOTTIME."""
        found = processes.status(self.process.pid)
        if found is None or found.started != self.process.started:
            return None  # Dead: the pidfd says so in this turn of the loop.
        pulse = self._pulse(place)
        seen = liveness.Seen(now=now, state=found.state, tick=pulse.tick, running=pulse.running, deadline=pulse.deadline)
        self._judgement, why = liveness.judged(self._judgement, seen, limits)
        return why

    def overdue(self) -> str | None:
        """Return that the node did not stop when it was asked to, or None. Nodes stop by themselves after their grace time."""
        grace = self.record.settings.worker.grace_seconds + STOP_SECONDS
        if self._asked_at is not None and time.monotonic() - self._asked_at > grace:
            return f"it did not stop within {grace:g} s"
        return None

    def leave(self) -> None:
        """Note that it was asked to stop."""
        self.leaving = True
        self._asked_at = self._asked_at or time.monotonic()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; to one that is dead by now, nothing is sent."""
        self.leave()
        if self._pidfd >= 0:
            processes.send(self._pidfd, number)

    def close(self) -> None:
        """Stop watching. The process, if it lives, goes on. Allowed twice."""
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        if self._beat is not None:
            self._beat.close()
            self._beat = None
        if not self.ready.done():
            self.ready.set_result(None)

    def _pulse(self, place: layout.Layout) -> beat.BeatState:
        if self._beat is None:
            try:
                self._beat = beat.Beat.open(place.beat(self.record.incarnation))
            except (OSError, ValueError):
                return beat.BeatState(0, 0, 0)  # It has not come so far.
        return self._beat.read()

    def _over(self) -> None:
        with contextlib.suppress(ChildProcessError):  # One that was adopted, from an agent in another process.
            self._end_followers()
            self.exit_code = self._wait()
        self.close()
        self._ended(self)
        self.dead.set()

    def _end_followers(self) -> None:
        """A node that did not end by itself leaves processes of its handlers; its jobs must not run twice at a time.

        Until it is waited for, its pid (which is its group's number) belongs to nobody else. Raises ChildProcessError for one
        that is no child.
        """
        pid = self.process.pid
        found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is not None and (found.si_code != os.CLD_EXITED or found.si_status not in report.GOOD_ENDS):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)

    def _wait(self) -> int:
        """Wait for one's own child; also for one that was started here before this process became another program."""
        if self._child is not None:
            return self._child.wait()
        return os.waitstatus_to_exitcode(os.waitpid(self.process.pid, 0)[1])


def start(record: layout.NodeRecord, place: layout.Layout, ended: Callable[[Ward], None]) -> Ward:
    """Start a node in a session of its own, so that it outlives this process. Raises OSError when that fails (a full disk …)."""
    path = place.record(record.incarnation)
    files.write_private(path, msgspec.json.encode(record))
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        with open(place.log(record.incarnation), "ab", opener=_private) as output:
            child = subprocess.Popen(
                # -P: a directory named callboard where the user stands must not be taken for this package.
                [sys.executable, "-P", "-m", "callboard.node", str(path), str(writing)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=record.directory,
                pass_fds=(writing,),
                start_new_session=True,
            )
    except BaseException:
        os.close(reading)
        place.forget(record.incarnation)
        raise
    finally:
        os.close(writing)
    ward = Ward(record, processes.identified(child.pid), os.pidfd_open(child.pid), ended, child)
    _listen(reading, ward)
    return ward


def adopt(record: layout.NodeRecord, process: processes.Process, ended: Callable[[Ward], None]) -> Ward | None:
    """Take over a node that another agent started; None when it is dead by now."""
    pidfd = processes.opened(process)
    if pidfd is None:
        return None
    ward = Ward(record, process, pidfd, ended)
    ward.ready.set_result(report.Report())
    return ward


def _listen(descriptor: int, ward: Ward) -> None:
    """Read what the node reports, until it does or its end of the pipe is closed."""
    loop = asyncio.get_running_loop()

    def arrived() -> None:
        loop.remove_reader(descriptor)
        with contextlib.suppress(OSError):
            data = os.read(descriptor, 65536)
            if not ward.ready.done() and (said := report.read(data)) is not None:
                ward.ready.set_result(said)
        os.close(descriptor)

    loop.add_reader(descriptor, arrived)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
