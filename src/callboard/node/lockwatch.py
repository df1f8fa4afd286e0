"""The watch over the store's write lock: whoever holds it and does not move, everyone waits for; so it is killed.

Runs in a thread of the agent, because the agent's own writes may be among those that wait. It needs no store: the lock file
says who holds it (`jobs.engines.sqlite.lock`). The holder may be any process, a user's script too. The judging is in `liveness`;
the claims of a killed node are ended by the agent as for any other death.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import structlog

from callboard.jobs.engines.sqlite import lock
from callboard.node import liveness, processes

LOOK_SECONDS = 0.25
MEND = "if a handler held the interpreter in C code, declare it with runs_in='process'"
"""Said of a holder that ran: its writer had the lock, and other code of its process would not let it go on."""

log = structlog.get_logger()


class LockWatch:
    """Watches one lock file until closed. `start` and `close` once, from any thread."""

    def __init__(self, path: Path, limits: liveness.LockLimits) -> None:
        self._path = path
        self._limits = limits
        self._record: liveness.LockRecord | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lock-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def look(self) -> None:
        """Look once, and kill the holder if it must be."""
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        record = self._record = liveness.watched(self._record, self._holding(), now, self._limits)
        holding = record.holding
        if holding is not None and liveness.suspicious(record, self._limits):
            self._judge(record, processes.Process(holding.pid, holding.started))

    def _run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            self.look()

    def _holding(self) -> liveness.Holding | None:
        held = lock.holder(self._path)
        if held is None or held.pid == os.getpid():
            return None
        return liveness.Holding(held.pid, held.start_time, held.sequence)

    def _judge(self, record: liveness.LockRecord, process: processes.Process) -> None:
        """A holder that is gone left its name behind; the kernel has freed its lock."""
        pidfd = processes.opened(process)
        if pidfd is None:
            return
        try:
            status = processes.status(process.pid)
            why = status and liveness.holder_judged(record, status.state, self._limits)
            if status and why and self._holding() == record.holding:
                mend = {} if status.state in "Tt" else {"mend": MEND}
                log.error("killing the holder of the store's write lock", pid=process.pid, why=why, **mend)
                processes.send(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)
