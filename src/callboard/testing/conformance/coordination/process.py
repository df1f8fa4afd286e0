"""A process that holds a session of coordination and does as it is told: what can be frozen and killed.

The parent's half is `Process`; the other half is `run`. They talk in lines of JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from typing import Any

import msgspec
import structlog

from callboard import errors
from callboard.coordination import engine as seam
from callboard.coordination import engines
from callboard.kit import clock
from callboard.testing.conformance.coordination import candidate


class Process:
    """The handle of one such process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._child: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    async def start(self, url: str, session_seconds: float) -> None:
        """Return when it has a session."""
        given = (url, self.name, str(session_seconds))
        pipe = asyncio.subprocess.PIPE
        self._child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", f"from {__name__} import run; run()", *given, stdin=pipe, stdout=pipe, limit=1 << 24
        )
        await self.answer()

    async def ask(self, verb: str, *values: Any) -> Any:
        """Tell it to do something; return what comes of it. Raises what it raises. See `Told` for the verbs."""
        self.tell(verb, *values)
        return await self.answer()

    def tell(self, verb: str, *values: Any) -> None:
        """As `ask`, without waiting; `answer` is for later."""
        assert self._child is not None and self._child.stdin is not None
        self._child.stdin.write(msgspec.json.encode([verb, *values]) + b"\n")

    async def terms(self) -> list[candidate.Term]:
        """Return when it would have accepted requests."""
        return msgspec.convert(await self.ask("terms"), list[candidate.Term])

    async def freeze(self) -> None:
        """Stop it in its tracks."""
        self._signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)  # noqa: ASYNC222  # At once.

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    async def kill(self) -> None:
        """Kill it; return when it is dead."""
        self._signal(signal.SIGKILL)
        assert self._child is not None
        await self._child.wait()

    async def stop(self) -> None:
        """End it, however it is. Allowed twice."""
        child = self._child
        if child is not None and child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._signal(signal.SIGKILL)
        if child is not None:
            await child.communicate()

    def _signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def answer(self) -> Any:
        """Return what comes of the oldest thing that it was told and not asked about."""
        assert self._child is not None and self._child.stdout is not None
        line = await self._child.stdout.readline()
        if not line:
            raise AssertionError(f"the process of session {self.name!r} has ended; its errors are on stderr")
        answer, error = msgspec.json.decode(line)
        if error is not None:
            raise errors.restored(*error)
        return answer


class Told:
    """What the process does when told."""

    def __init__(self, session: seam.Session) -> None:
        self.instance = candidate.Candidate(session, clock.SystemClock())

    async def create(self, path: str, body: str) -> int:
        return (await self.instance.session.apply([seam.Create(path, body.encode())]))[0]

    async def replace(self, path: str, body: str, number: int) -> int:
        return (await self.instance.session.apply([seam.Replace(path, body.encode(), number)]))[0]

    async def paths(self, folder: str) -> list[str]:
        return [entry.path for entry in await self.instance.session.entries(folder)]

    async def stand(self, order: int) -> None:
        await self.instance.start(order)

    async def epoch(self) -> int:
        return self.instance.epoch

    async def terms(self) -> list[candidate.Term]:
        return self.instance.terms

    async def told(self) -> list[str]:
        return self.instance.told

    async def states(self) -> list[str]:
        return [state.value for state in self.instance.states]

    async def hang(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251  # This is what it is told to do.

    async def fork(self, seconds: float) -> int:
        """Leave a forked child behind, that lives for a while and does nothing."""
        child = os.fork()
        if child == 0:
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            time.sleep(seconds)  # noqa: ASYNC251
            os._exit(0)
        return child


async def main(url: str, name: str, session_seconds: str) -> None:
    """Begin the session, then do as told until the input ends."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    engine = engines.open(url, session_seconds=float(session_seconds))
    told = Told(await engine.session(name))
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    _say(None)
    while line := await reader.readline():
        verb, *values = msgspec.json.decode(line)
        try:
            _say(await getattr(told, verb)(*values))
        except errors.CallboardError as error:
            _say(None, (error.code, error.message, error.retryable, error.data))


def _say(answer: Any, error: Any = None) -> None:
    sys.stdout.buffer.write(msgspec.json.encode((answer, error)) + b"\n")
    sys.stdout.buffer.flush()


def run() -> None:
    """Be that process."""
    asyncio.run(main(*sys.argv[1:]))
