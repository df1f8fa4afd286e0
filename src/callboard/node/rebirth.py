"""How an agent becomes another one in the same process: new software and new settings come in, its nodes go on meanwhile.

The command that it was started by is run again: first beside it, only to tell whether it would work (`refused`: with what the
software on disk now makes of the file as it is now), then in its place (`begin`). Who is run again is told by the environment,
once: see `taken`.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Final, Literal, NoReturn

import msgspec

from callboard.coordination import sessions
from callboard.node import layout

VARIABLE: Final = "_CALLBOARD_AGAIN"
_COMPLAINT: Final = re.compile(r"^callboard: (.*) \([a-z_]+\)$")
"""How commands say what is wrong."""
SHOWN: Final = 500
"""Characters of what a check complains of: it goes into the server's entry, where all read it."""
CHECK_SECONDS: Final = 60.0
"""How long the check may take. It loads the software and reads the file."""

HELD: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What a process that is run again is told."""

    pid: int
    """Of the agent: whatever else inherits this is not meant."""
    only: Literal["check", "begin"]
    wish: int = 0
    """Number of the wish for a renewal that it is run for; 0: nobody wished one."""


class Again(msgspec.Struct, frozen=True, kw_only=True):
    """How the agent of this process is started once more."""

    command: tuple[str, ...] = (sys.executable, *sys.orig_argv[1:])
    environment: Mapping[str, str] = {}
    """Beside that of this process."""
    before: Callable[[], None] = lambda: None
    """Called when this agent has come to its end."""


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent says to commands: in its session of the data directory."""

    start: str = ""
    """Incarnation of the agent."""
    ready: bool = False
    """Whether its start is complete."""
    refusals: int = 0
    """How many times it was asked to start itself anew and did not."""
    why: str = ""
    """Why it did not, the last time."""
    renewing: bool = False
    """Whether nodes are being replaced."""
    trouble: str = ""
    """Why the last replacing of nodes stopped short."""


class Speaker:
    """Keeps the agent's word up to date."""

    def __init__(self, session: sessions.ProcessSession, start: str) -> None:
        self._session = session
        self.word = Word(start=start)
        self._put()

    def say(self, word: Word) -> None:
        self.word = word
        self._put()

    def _put(self) -> None:
        self._session.put(layout.WORD, msgspec.json.encode(self.word))


def taken() -> Mark | None:
    """Return why this process was started, None when it was not by an agent that starts itself anew. Tells it once."""
    text = os.environ.pop(VARIABLE, "")
    if not text:
        return None
    try:
        mark = msgspec.json.decode(text, type=Mark)
    except msgspec.MsgspecError:
        return None
    if mark.pid != (os.getppid() if mark.only == "check" else os.getpid()):
        return None
    if mark.only == "begin":
        _reap()
    return mark


def only_checked() -> bool:
    """Tell whether this process is to end where the agent would begin."""
    return '"check"' in os.environ.get(VARIABLE, "")


def refused(again: Again) -> str:
    """Return why the agent cannot be started anew, in one line; an empty text if it can. Blocks."""
    try:
        ran = subprocess.run(
            again.command,
            env=_environment({}, Mark(pid=os.getpid(), only="check")),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=CHECK_SECONDS,
            check=False,
        )
    except OSError as error:
        return f"{again.command[0]} cannot be run: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"the check did not end within {CHECK_SECONDS:g} s"
    if ran.returncode == 0:
        return ""
    said = ran.stderr.strip().splitlines()
    return _COMPLAINT.sub(r"\1", said[-1])[:SHOWN] if said else f"the check ended with exit code {ran.returncode}"


def hold(held: bool) -> None:
    """Have signals wait for the one that this process becomes, or let them through: until that one heeds them, they would end
    the process and nothing but the process."""
    signal.pthread_sigmask(signal.SIG_BLOCK if held else signal.SIG_UNBLOCK, HELD)


def begin(again: Again, wish: int) -> NoReturn:
    """Become the agent that the command starts now. Raises OSError."""
    again.before()
    environment = _environment(again.environment, Mark(pid=os.getpid(), only="begin", wish=wish))
    os.execve(again.command[0], again.command, environment)


def _reap() -> None:
    """Nodes that ended while nobody looked are this process's children still, as all nodes of its former agents are."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def _environment(more: Mapping[str, str], mark: Mark) -> dict[str, str]:
    return {**os.environ, **more, VARIABLE: msgspec.json.encode(mark).decode()}
