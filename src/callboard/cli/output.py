"""How commands print: tables and colour on a terminal, tab-separated lines when piped, JSON when asked.

Piped lines have no header and one line a row; a tab or a line break inside a value becomes a space. Whatever comes from
outside (tags, notes, names) is stripped of control characters before it reaches a terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TextIO

import msgspec

COLOURS: Mapping[str, str] = {
    "completed": "green",
    "running": "cyan",
    "available": "blue",
    "scheduled": "blue",
    "pending": "blue",
    "retryable": "magenta",
    "cancelled": "yellow",
    "discarded": "red",
}
"""Colours of the words that stand for a job's state."""

UNBROKEN: Final = 12
"""A column of short words is not broken into lines."""


def on_terminal(stream: TextIO | None = None) -> bool:
    """Tell whether a stream (standard output by default) shows to a person."""
    return (stream or sys.stdout).isatty()


def line(text: str) -> None:
    """Print a line now, also into a pipe."""
    print(text, flush=True)


def note(text: str) -> None:
    """Say something to the person who called, which is no part of the output."""
    print(f"callboard: {text}", file=sys.stderr, flush=True)


def complain(message: str, code: str) -> None:
    """Print an error as one line on standard error, with its stable code."""
    print(f"callboard: {' '.join(plain(message).split())} ({code})", file=sys.stderr, flush=True)


def document(value: Any) -> None:
    """Print a value as JSON: spread over lines on a terminal, on one line when piped."""
    encoded = msgspec.json.encode(value)
    line((msgspec.json.format(encoded, indent=2) if on_terminal() else encoded).decode())


def value_text(value: Any) -> str:
    """Write a JSON-shaped value for a person: a string as it is, everything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows under columns, or tab-separated without the columns when piped.

    The first column, which names the row, is never cut: it is there to be copied.
    """
    if not on_terminal():
        for row in rows:
            line("\t".join(cell(each) for each in row))
        return
    # Loaded only where it is shown.
    from rich import box, console, table, text

    drawn = table.Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 0), header_style="bold")
    cells = [[cell(each) for each in row] for row in rows]
    for place, name in enumerate(columns):
        longest = max((len(row[place]) for row in cells), default=0)
        drawn.add_column(name, no_wrap=place == 0 or longest <= UNBROKEN, overflow="fold")
    for row in cells:
        drawn.add_row(*(text.Text(each, style=COLOURS.get(each, "")) for each in row))
    console.Console().print(drawn)


def facts(pairs: Iterable[tuple[str, Any]]) -> None:
    """Print named values, one a line: aligned on a terminal, `name<TAB>value` when piped. None is left out."""
    shown = [(name, cell(value)) for name, value in pairs if value is not None]
    if not on_terminal():
        for name, value in shown:
            line(f"{name}\t{value}")
        return
    from rich import console, text

    width = max((len(name) for name, _ in shown), default=0)
    terminal = console.Console()
    for name, value in shown:
        words = text.Text.assemble((f"{name:<{width}}  ", "bold"), (value, COLOURS.get(value, "")))
        terminal.print(words, soft_wrap=True)


def cell(value: Any) -> str:
    """Write one value of a table: nothing for None, times to the second on a terminal, no control characters."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return local_time(value) if on_terminal() else value.isoformat().replace("+00:00", "Z")
    return plain(value_text(value))


def local_time(value: datetime) -> str:
    """Write a time as the clock on the wall here shows it; the day only when it is another one."""
    here = value.astimezone()
    return here.strftime("%H:%M:%S" if here.date() == datetime.now().date() else "%Y-%m-%d %H:%M")


def plain(text: str) -> str:
    """Replace line breaks, tabs and control characters, so that text stays in its place."""
    return "".join(each if each.isprintable() else " " for each in text)
