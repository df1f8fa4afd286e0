"""Logs: one line an event, key=value or JSON, to standard error (which the agent leads into the node's log file).

`configure` is called once by whoever owns the process: a node, the agent, a command. Everyone else takes
`structlog.get_logger()`. No secrets: values under telling names, and anything that looks like an API key, are masked.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO, cast

import structlog

from callboard.kit import clock

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
MASK = "***"

_SECRET_NAMES = frozenset({"authorization", "key", "api_key", "password", "secret", "token", "cookie"})
_API_KEY = re.compile(r"\bcb_[A-Za-z0-9]+_[A-Za-z0-9_-]+")

Event = MutableMapping[str, Any]


def configure(level: str = "info", form: Literal["text", "json"] = "text", stream: TextIO | None = None, **bound: str) -> None:
    """Set the process's logging up: `form` text gives key=value lines; `bound` goes into every line. Allowed again."""
    text = structlog.processors.LogfmtRenderer(key_order=["at", "level", "event"])
    renderer: Any = structlog.processors.JSONRenderer() if form == "json" else text
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.format_exc_info,
            masked,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Lenient(stream or sys.stderr))),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**bound)
    logging.basicConfig(level=LEVELS[level], handlers=[_Bridge()], force=True)


class _Lenient:
    """A stream whose trouble stays its own: a log on a full disk, or a closed terminal, must not stop any work."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: it was closed.
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


class _Bridge(logging.Handler):
    """Leads what libraries say through the standard library into the same lines."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING or record.name.startswith("callboard"):
            structlog.get_logger().log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info or None)


def masked(_logger: Any, _method: str, event: Event) -> Event:
    """Hide what must not be in a log: values of telling names, and API keys wherever they stand."""
    for name, value in event.items():
        if name.lower() in _SECRET_NAMES:
            event[name] = MASK
        elif isinstance(value, str) and "cb_" in value:
            event[name] = _API_KEY.sub(MASK, value)
    return event


class Seldom:
    """Warnings that others can cause as often as they like: of one event and code, one line in `seconds`, with how many were
    left out.

    On one event loop or thread. What it remembers is bounded.
    """

    KINDS = 256

    def __init__(self, clock: clock.Clock, seconds: float = 10.0) -> None:
        self._clock = clock
        self._seconds = seconds
        self._said: dict[tuple[str, str], tuple[int, int]] = {}
        """When a line is due again (CLOCK_BOOTTIME), and how many were left out since the last one."""

    def warning(self, event: str, *, code: str = "", **facts: Any) -> None:
        """Log a warning, or count it."""
        now = self._clock.boot()
        due, left_out = self._said.get((event, code), (0, 0))
        if now < due:
            self._said[event, code] = (due, left_out + 1)
            return
        if len(self._said) >= self.KINDS:
            self._said.clear()
        self._said[event, code] = (now + int(self._seconds * 1e9), 0)
        if left_out:
            facts["left_out"] = left_out
        structlog.get_logger().warning(event, code=code, **facts)
