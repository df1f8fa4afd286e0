"""Coordination of the processes of one machine: a directory, and locks that the kernel frees when a process dies.

No server, no clock, no lease: a session lives exactly as long as its process, frozen or not, and its death is known to the others
within milliseconds. `book` is the directory, `lookout` hears what changes there, `engine` is the seam over both.
"""

from __future__ import annotations

from pathlib import Path
from urllib import parse

from callboard import errors
from callboard.coordination.engines.local import engine

__all__ = ["open"]


def open(url: str, *, session_seconds: float = 3.0) -> engine.LocalEngine:
    """`local:///directory`, which is made if need be. Nothing expires: `session_seconds` is what sessions are granted all the
    same, so that who holds an office confirms it as often as elsewhere. Raises InvalidSetting."""
    place = parse.urlsplit(url)
    if place.netloc or not place.path.startswith("/") or place.query or place.fragment:
        raise errors.InvalidSetting(
            f"coordination {url!r} names no directory: write it like local:///var/lib/callboard/coordination"
        )
    return engine.LocalEngine(Path(parse.unquote(place.path)), session_seconds=session_seconds)
