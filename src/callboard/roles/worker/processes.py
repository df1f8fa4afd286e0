"""Handlers in child processes: for what must be killable, or hogs the CPU. Spawned, never forked from a node with an open store.

A child runs one job at a time. One that is told to end is killed, and the next job gets another; idle ones are kept a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

from callboard.jobs import model
from callboard.roles.worker import endings, pipe
from callboard.roles.worker.run import Keeper, Run

IDLE_SECONDS: Final = 60.0
"""How long a child without work is kept: starting one takes some tenths of a second, keeping one some 30 MB."""

START_SECONDS: Final = 60.0
"""How long a child may take to start and to import the handler: no attempt's time, but not endless either."""
END_SECONDS: Final = 1.0
"""How long a child that has closed its pipe may take to end."""


class Processes:
    """A `run.Place`."""

    def __init__(self, keeper: Keeper, max_result: int, log_level: str = "info", log_form: str = "text") -> None:
        self._keeper = keeper
        self._max_result = max_result
        self._log = (log_level, log_form)
        self._idle: list[Child] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def begin(self, run: Run) -> None:
        task = asyncio.get_running_loop().create_task(self._conduct(run), name="callboard-child")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def end(self, run: Run) -> None:
        if run.means is not None:
            run.means.kill()

    async def close(self) -> None:
        self._closed = True
        idle, self._idle = self._idle, []
        for child in idle:
            child.kill()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*(child.gone() for child in idle), *self._tasks, return_exceptions=True)

    async def _conduct(self, run: Run) -> None:
        try:
            child = await self._child()
        except OSError as error:
            self._keeper.failed(run, endings.failure(error))
            return
        try:
            await self._work(child, run)
        finally:
            run.means = None
            self._keep(child)

    async def _work(self, child: Child, run: Run) -> None:
        run.means = child
        if run.cancelled:
            self._keeper.stopped(run)
            return
        message = await child.run(_work(run, self._max_result), run, self._keeper)
        match message:
            case pipe.Returned(result):
                self._keeper.completed(run, result)
            case pipe.Raised(failure):
                self._keeper.failed(run, failure)
            case None:
                how = await child.gone()  # Its job may run elsewhere only after its end.
                if run.why:
                    self._keeper.stopped(run)
                else:
                    said = f"the process that ran the handler ended: {how}"
                    self._keeper.failed(run, endings.Failure(model.Reason.FAILED, "ProcessDied", said))

    async def _child(self) -> Child:
        while self._idle:
            child = self._idle.pop()
            if child.take():
                return child
        return await Child.spawn(*self._log)

    def _keep(self, child: Child) -> None:
        if child.alive and not self._closed:
            self._idle.append(child)
            child.rest(IDLE_SECONDS, self._dismiss)
        else:
            child.kill()

    def _dismiss(self, child: Child) -> None:
        if child in self._idle:
            self._idle.remove(child)
            child.kill()


class Child:
    """One child process. On the loop's thread."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._process = process
        self._in = process.stdin
        self._out = process.stdout
        self._working = False
        self._resting: asyncio.TimerHandle | None = None
        self.alive = True

    @classmethod
    async def spawn(cls, log_level: str, log_form: str) -> Child:
        """Start a child; it works as soon as it has imported what it needs. Raises OSError."""
        # From the loop's thread: the kernel sends a child's death signal when the thread that started it ends.
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "callboard.roles.worker.child",
            str(os.getpid()),
            log_level,
            log_form,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        child = cls(process)
        child._in.write(pipe.frame(pipe.Hello(sys.path)))
        return child

    def take(self) -> bool:
        """Take it for a job, if it is still alive."""
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        self.alive = self.alive and self._process.returncode is None
        return self.alive

    def rest(self, seconds: float, dismiss: Callable[[Child], None]) -> None:
        """Call `dismiss(self)` if nobody takes it for `seconds`."""
        self._resting = asyncio.get_running_loop().call_later(seconds, dismiss, self)

    async def run(self, work: pipe.Work, run: Run, keeper: Keeper) -> pipe.Returned | pipe.Raised | None:
        """Have it run a job; None when it died of it, or could not begin in time."""
        try:
            self._in.write(pipe.frame(work))
            async with asyncio.timeout(START_SECONDS):
                message = await self._read()
            while not isinstance(message, (pipe.Returned, pipe.Raised)):
                match message:
                    case pipe.Begun():
                        keeper.goes_on(run)
                    case pipe.Moved(progress):
                        run.progress = progress
                    case pipe.Joined(joined):
                        run.joined = joined
                message = await self._read()
            return message
        except (OSError, asyncio.IncompleteReadError):  # Also a TimeoutError.
            self.alive = False
            return None

    async def _read(self) -> pipe.FromChild:
        header = await self._out.readexactly(pipe.HEADER.size)
        message: pipe.FromChild = pipe.from_child(await self._out.readexactly(pipe.HEADER.unpack(header)[0]))
        return message

    def kill(self) -> None:
        """Kill it, at once and whatever it does; allowed twice."""
        self.alive = False
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._in.close()

    async def gone(self) -> str:
        """Wait for its end, which is near, or make it; return how it ended, in words."""
        try:
            async with asyncio.timeout(END_SECONDS):
                code = await self._process.wait()
        except TimeoutError:
            self.kill()
            code = await self._process.wait()
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _work(run: Run, max_result: int) -> pipe.Work:
    """What a child is told; handlers that a main program declares are found by its module's name, or by its file."""
    path, main = run.handler.path, None
    if path.startswith("__main__:"):
        program = sys.modules["__main__"]
        if (spec := getattr(program, "__spec__", None)) is not None:
            path = spec.name + path.removeprefix("__main__")
        else:
            main = getattr(program, "__file__", None)
    return pipe.Work(path, main, run.job, max_result)
