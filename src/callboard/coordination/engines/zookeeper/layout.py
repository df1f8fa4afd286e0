"""What lies where in ZooKeeper, and what the content of a node says. Pure.

    ROOT/sessions/NAME            ephemeral: a live session; its header names its token
    ROOT/entries/FOLDER/NAME      an entry, ephemeral or lasting: a header line, then the body
    ROOT/seals/TOKEN              made and removed together with one entry or session, never again; its content is the path

An entry's number is the transaction id of its creation (czxid). But ZooKeeper has no guard for that: its guards are versions,
which begin at 0 again when a node is deleted and created anew, and so hold for somebody who was frozen meanwhile. Hence the
**seals**: the name of one is never used twice, so that it exists proves that the entry is still the same. Every transaction
is guarded by the seals of its entries and of its session.
"""

from __future__ import annotations

from typing import Final

import msgspec

from callboard.coordination import engine as seam

_FORMAT: Final = b"1"


class Header(msgspec.Struct, frozen=True):
    """The first line of an entry. It stays as long as the entry does; fields may be appended, readers ignore more."""

    token: str
    session: str = ""
    """The session that holds it; empty for a lasting one."""

    def line(self) -> bytes:
        return b"%s %s %s\n" % (_FORMAT, self.token.encode(), self.session.encode() or b"-")


def parse(content: bytes) -> tuple[Header, bytes] | None:
    """Return header and body of an entry's content; None when it is none of ours."""
    line, newline, body = content.partition(b"\n")
    parts = line.split(b" ")
    if not newline or len(parts) < 3 or parts[0] != _FORMAT or not line.isascii():
        return None
    session = parts[2].decode()
    return Header(parts[1].decode(), "" if session == "-" else session), body


class Layout:
    """Paths under one root, like `/callboard`."""

    def __init__(self, root: str) -> None:
        self._root = root
        self.seals = f"{root}/seals"
        self.sessions = f"{root}/{seam.SESSIONS}"
        self._entries = f"{root}/entries"

    def ground(self) -> list[str]:
        """The nodes that must exist before anything else can, the outer ones first."""
        parts = self._root.strip("/").split("/")
        above = ["/" + "/".join(parts[: depth + 1]) for depth in range(len(parts))]
        return [*above, self._entries, self.seals, self.sessions]

    def folder(self, folder: str) -> str:
        return self.sessions if folder == seam.SESSIONS else f"{self._entries}/{folder}"

    def entry(self, path: str) -> str:
        return f"{self._entries}/{path}"

    def session(self, name: str) -> str:
        return f"{self.sessions}/{name}"

    def seal(self, token: str) -> str:
        return f"{self.seals}/{token}"
