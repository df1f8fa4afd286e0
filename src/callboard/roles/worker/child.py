"""The process in which handlers with `runs_in="process"` run, one job after another: `python -m callboard.roles.worker.child`.

Started, fed and killed by `processes`; dies with its parent. Its standard input and output are the pipe; handlers get an
empty input, and what they print goes to standard error, into the node's log.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import runpy
import signal
import sys
import threading
import time
import types
from typing import BinaryIO, Final

from callboard.app import handler
from callboard.jobs import model
from callboard.kit import telemetry
from callboard.roles.worker import calls, endings, pipe

PROGRESS_SECONDS: Final = 0.2
"""How often progress is told at the most: a handler may report in a tight loop."""
_PR_SET_PDEATHSIG: Final = 1
_MAIN: Final = "__main__"

_found: dict[str, handler.Handler] = {}


class Port:
    """A `context.Port` whose news go to the parent; progress from a thread that starts with the first report."""

    cancelled = False  # A child is not asked, it is killed.

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._progress: model.Progress | None = None
        self._joined = False
        self._moved = threading.Event()
        self._teller: threading.Thread | None = None

    @property
    def progress(self) -> model.Progress | None:
        return self._progress

    @progress.setter
    def progress(self, value: model.Progress | None) -> None:
        self._progress = value
        self._moved.set()
        if self._teller is None:
            self._teller = threading.Thread(target=self._tell, name="callboard-progress", daemon=True)
            self._teller.start()

    @property
    def joined(self) -> bool:
        return self._joined

    @joined.setter
    def joined(self, value: bool) -> None:
        """Tell the parent before anything else happens: whatever becomes of this process then, it knows."""
        self._joined = value
        self._outbox.put(pipe.Joined(value))

    def begun(self) -> None:
        """Say that the handler is called now."""
        self._outbox.put(pipe.Begun())

    def ended(self) -> None:
        """Report nothing more of this job."""
        self._progress = None
        self._joined = False

    def _tell(self) -> None:
        while self._moved.wait():
            self._moved.clear()
            self._outbox.moved(self)
            time.sleep(PROGRESS_SECONDS)


class Outbox:
    """The way to the parent. Used from any thread."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def put(self, message: pipe.FromChild) -> None:
        with self._lock:
            self._put(message)

    def moved(self, port: Port) -> None:
        with self._lock:
            if (progress := port.progress) is not None:  # None: its job has ended, the next message is of another one.
                self._put(pipe.Moved(progress))

    def ended(self, port: Port, result: bytes | endings.Failure | None) -> None:
        with self._lock:
            port.ended()
            self._put(pipe.Raised(result) if isinstance(result, endings.Failure) else pipe.Returned(result))

    def _put(self, message: pipe.FromChild) -> None:
        self._stream.write(pipe.frame(message))
        self._stream.flush()


def main() -> None:
    """Serve the parent until it closes the pipe."""
    _die_with_parent(int(sys.argv[1]))
    inbox, outbox = _take_pipes()
    telemetry.configure(level=sys.argv[2], form="json" if sys.argv[3] == "json" else "text", stream=sys.stderr)
    port = Port(outbox)
    while (message := _read(inbox)) is not None:
        if isinstance(message, pipe.Hello):
            sys.path[:] = message.path
            importlib.invalidate_caches()
        else:
            outbox.ended(port, _work(message, port))


def _work(work: pipe.Work, port: Port) -> bytes | endings.Failure | None:
    try:
        found = _found.get(work.path) or _locate(work)
    except BaseException as error:
        return endings.failure(error)
    port.begun()
    return calls.run(found, work.job, port, work.max_result)


def _read(inbox: BinaryIO) -> pipe.ToChild | None:
    header = inbox.read(pipe.HEADER.size)
    if len(header) < pipe.HEADER.size:
        return None
    message: pipe.ToChild = pipe.to_child(inbox.read(pipe.HEADER.unpack(header)[0]))
    return message


def _die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, even in the middle of a handler."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # It died before the kernel knew.
    # Sent to the whole group; here the parent decides. What a handler starts gets the defaults again.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, _ignore)


def _ignore(*_: object) -> None:
    pass


def _take_pipes() -> tuple[BinaryIO, Outbox]:
    """Keep the pipe for ourselves; whatever handlers read is empty, and whatever they print goes to standard error."""
    inbox, outbox = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return inbox, Outbox(outbox)


def _locate(work: pipe.Work) -> handler.Handler:
    if work.main is not None:  # Run under another name, so that the program declares its handlers and does nothing else.
        program = types.ModuleType(_MAIN)
        program.__dict__.update(runpy.run_path(work.main, run_name="__callboard_main__"))
        sys.modules[_MAIN] = program
    found = _found[work.path] = handler.locate(work.path)
    return found


if __name__ == "__main__":
    main()
