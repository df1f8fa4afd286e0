"""Frames of STOMP 1.2 out of bytes. Pure.

stomp.py takes frames apart as well, at six times the cost (30 µs a message where this takes 5): it stays the judge of rare
escapes, and makes the frames that are sent (`wire`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec
from stomp import utils

MOST_HEAD_BYTES: Final = 64 * 1024
"""What a frame's command and headers may take; of a frame with more the body is dropped."""
READABLE_HEAD_BYTES: Final = 16 * 1024 * 1024
"""With more of them nobody looks for their end. ActiveMQ takes 10 MB of headers from a STOMP client."""
STALLED_BEATS: Final = 3
"""After so many heartbeats inside a body its length was a lie: no broker says anything while it writes a frame."""
_COMMANDS: Final = frozenset(("CONNECTED", "MESSAGE", "RECEIPT", "ERROR"))
_LINE_ENDS: Final = re.compile(rb"[\r\n]*")
_KEPT: Final = frozenset(("subscription", "message-id", "destination", "receipt-id", "message"))
"""Headers of a frame that had too many which are kept."""
_BEATS: Final = frozenset((b"\n", b"\r\n"))


class Malformed(Exception):
    """Raised for bytes after which nobody can tell where the next frame begins."""


class Frame(msgspec.Struct, frozen=True):
    """One frame of a server."""

    command: str
    headers: dict[str, str]
    body: bytes
    ack: str = ""
    """The header `ack` as it was written, with its escapes: to be written back."""
    dropped: int = 0
    """Bytes of a frame over the limits, whose body is not kept; at least so many."""


class Splitter:
    """Cuts what arrives into frames. A body over `most_bytes` is dropped on its way, and its frame says so.

    What begins with no command that servers use is skipped up to its end, and counted in `nonsense`. From an honest broker
    that is the rest of a text with a NUL in it: texts come without their length, and are cut there.

    Who sends a text may give it a property `content-length`, and an honest broker writes it as if it were its own word: a length
    that leads to no end of a frame counts for nothing.
    """

    def __init__(self, most_bytes: int) -> None:
        self.nonsense = 0
        self._most_bytes = most_bytes
        self._rest = b""
        self._wanted = 0
        self._skip_bytes = 0
        self._skip_to_end = False
        self._beats = 0
        """Heartbeats since anything else came."""

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that are whole with these bytes, in order. Raises Malformed."""
        self._beats = self._beats + 1 if data in _BEATS else 0
        if self._stalled:
            if self._skip_bytes:
                raise Malformed("a frame is shorter than it says")
            self._wanted = 0
        if self._rest:
            data = self._rest + data
        found: list[Frame] = []
        place = 0
        if len(data) >= self._wanted:
            self._wanted = 0
            while (after := self._take(data, place, found)) is not None:
                place = after
        self._rest = data[place:]
        return found

    @property
    def _stalled(self) -> bool:
        """Whether no more bytes come for what was begun, though the broker lives."""
        return self._beats >= STALLED_BEATS and bool(self._wanted or self._skip_bytes)

    def _take(self, data: bytes, place: int, found: list[Frame]) -> int | None:
        """Take what begins at `place`; return where the next thing begins, None when more bytes are needed to say."""
        if place == len(data):
            return None
        if self._skip_bytes:
            skipped = min(self._skip_bytes, len(data) - place)
            self._skip_bytes -= skipped
            return place + skipped
        if self._skip_to_end:
            end = data.find(b"\0", place)
            self._skip_to_end = end < 0
            return end + 1 if end >= 0 else len(data)
        if data[place] in b"\r\n":  # A heartbeat, or what may stand between frames.
            return _after_line_ends(data, place)
        return self._take_frame(data, place, found)

    def _take_frame(self, data: bytes, place: int, found: list[Frame]) -> int | None:
        first = data.find(b"\n", place, place + 16)
        command = data[place:first].rstrip(b"\r").decode("ascii", "replace") if first >= 0 else ""
        if command not in _COMMANDS:
            if first < 0 and len(data) - place < 16 and b"\0" not in data[place:]:
                return None
            self.nonsense += 1
            self._skip_to_end = True
            return place
        gap = b"\r\n\r\n" if data[first - 1 : first] == b"\r" else b"\n\n"
        end = data.find(gap, first - len(gap) // 2 + 1, place + READABLE_HEAD_BYTES)
        if end < 0:
            if len(data) - place > READABLE_HEAD_BYTES:
                raise Malformed(f"a frame's headers take more than {READABLE_HEAD_BYTES} bytes")
            return None
        headers, ack = _headers(data[first + 1 : end])
        return self._take_body(data, place, end + len(gap), Frame(command, headers, b"", ack), found)

    def _take_body(self, data: bytes, place: int, body: int, frame: Frame, found: list[Frame]) -> int | None:
        length = _length(frame.headers)
        if length is not None and length <= self._most_bytes:
            end = body + length
            if end >= len(data) and self._beats < STALLED_BEATS:
                self._wanted = end + 1 - place
                return None
            if end >= len(data) or data[end]:
                length = None
        if length is None:
            end = data.find(b"\0", body)
            size = (end if end >= 0 else len(data)) - body
        else:
            end, size = body + length, length
        if size > self._most_bytes:
            found.append(msgspec.structs.replace(frame, dropped=size))
            self._skip_bytes, self._skip_to_end = (0, True) if length is None else (length + 1, False)
            return body
        if end < 0:
            return None
        if body - place > MOST_HEAD_BYTES:
            kept = {name: value[:1_000] for name, value in frame.headers.items() if name in _KEPT}
            found.append(msgspec.structs.replace(frame, headers=kept, dropped=end - place))
        else:
            found.append(Frame(frame.command, frame.headers, data[body:end], frame.ack))
        return end + 1


def _length(headers: Mapping[str, str]) -> int | None:
    """Return how many bytes the body has by the frame's own word, if that is a number."""
    written = headers.get("content-length", "")
    return int(written) if written.isascii() and written.isdigit() and len(written) < 19 else None


def _headers(lines: bytes) -> tuple[dict[str, str], str]:
    """Take headers apart; return them, and `ack` as it was written. Of a name that comes twice the first counts."""
    text = lines.decode("utf-8", "replace")
    found: dict[str, str] = {}
    if "\r" in text:
        text = "\n".join([line.removesuffix("\r") for line in text.split("\n")])
    ack = ""
    for line in text.split("\n"):
        name, _, value = line.partition(":")
        if name == "ack":
            ack = ack or value
        if "\\" in line:
            name, value = _plain(name), _plain(value)
        if name not in found:
            found[name] = value
    return (found if "\\\\" not in text else utils.parse_headers(text.split("\n"))), ack


def _plain(text: str) -> str:
    """Take escapes away, where no backslash itself was escaped."""
    return text.replace("\\c", ":").replace("\\n", "\n").replace("\\r", "\r") if "\\" in text else text


def _after_line_ends(data: bytes, place: int) -> int:
    found = _LINE_ENDS.match(data, place)
    return found.end() if found else place
