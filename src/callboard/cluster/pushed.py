"""The newest version of a cluster's file, as coordination has it: an entry that no session holds.

A server compares its own file with it at its start: one whose file is older stands for no office, so that those hold them who
know the cluster as it is now. What is kept is the text without its passwords, for people to read, and a digest of the whole: no
server starts from it.
"""

from __future__ import annotations

import hashlib
import re
import time
from typing import Final

import msgspec

from callboard import errors
from callboard.coordination import engine

PATH: Final = "cluster/file"
_PASSWORD: Final = re.compile(r"(://[^\s:/@\"']*):[^\s@\"']*@")


class Pushed(msgspec.Struct, frozen=True):
    """What was pushed."""

    version: int
    digest: str
    """Of the whole text: two files of one version that differ are a mistake."""
    cluster: str
    at: int
    """When, in microseconds of UTC, by the clock of whoever pushed it."""
    text: str = ""
    """Without passwords."""


def shown(text: str) -> str:
    """Return a text without the passwords in its URLs."""
    return _PASSWORD.sub(r"\1:***@", text)


def digest(text: str) -> str:
    """Return what tells two texts of one version apart."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


async def read(session: engine.Session) -> Pushed | None:
    """Return what was pushed last, None if nothing was. Raises CoordinationUnavailable."""
    found = await _entry(session)
    return found[1] if found else None


async def push(session: engine.Session, *, version: int, text: str, cluster: str) -> Pushed | None:
    """Put a newer version in the place of what is there; return what was there before.

    The same file again changes nothing. Raises StateRefused when what is there is newer, or of the same version and another
    text; CoordinationConflict when somebody else pushed at this moment; TooLarge; CoordinationUnavailable: unknown whether it was
    done.
    """
    made = Pushed(version=version, digest=digest(text), cluster=cluster, at=time.time_ns() // 1000, text=shown(text))
    body = msgspec.json.encode(made)
    found = await _entry(session)
    if found is None:
        await session.apply([engine.Create(PATH, body, lasting=True)])
        return None
    entry, before = found
    if before is not None:
        check(before, version=version, text=text)
        if before.version == version:
            return before
    await session.apply([engine.Replace(PATH, body, entry.number, entry.body)])
    return before


def check(before: Pushed, *, version: int, text: str) -> None:
    """Raise StateRefused for a file that is older than what was pushed, or another one of the same version."""
    if before.version > version:
        raise errors.StateRefused(f"version {before.version} was pushed, and this file is version {version}: take the newer file")
    if before.version == version and before.digest != digest(text):
        raise errors.StateRefused(f"another file of version {version} was pushed: count the version of this one up")


async def _entry(session: engine.Session) -> tuple[engine.Entry, Pushed | None] | None:
    for entry in await session.entries(PATH.partition("/")[0]):
        if entry.path == PATH:
            try:
                return entry, msgspec.json.decode(entry.body, type=Pushed)
            except msgspec.MsgspecError:  # Written by hand, or by a version to come.
                return entry, None
    return None
