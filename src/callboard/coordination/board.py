"""What one session last read of the folders that elections need, read again only after word of a change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from callboard.coordination import election, heeding
from callboard.coordination import engine as seam

FOLDERS = (election.CANDIDATES, election.ACTIVE, election.DEPOSED)


class Board:
    """Snapshots of folders, shared by all who stand. `changed` is called when one of them has to be read again."""

    def __init__(self, session: seam.Session, changed: Callable[[], None]) -> None:
        self._session = session
        self._changed = changed
        self._entries: dict[str, dict[str, list[seam.Entry]]] = {}
        self._sessions: frozenset[str] = frozenset()
        self._old = {*FOLDERS, seam.SESSIONS}
        self._reading = asyncio.Lock()
        self._ends: list[Callable[[], None]] = []

    def close(self) -> None:
        for end in self._ends:
            end()

    def forget(self) -> None:
        """Read everything again: after operations of one's own, or when a guard failed."""
        self._old |= {*FOLDERS, seam.SESSIONS}

    async def view(self, office: str) -> election.View:
        """Return a view of an office, not older than the last word of a change. Raises CoordinationUnavailable."""
        async with self._reading:
            self._watch()
            for folder in FOLDERS:
                await self._refresh(folder)
            candidates, active, marks = (self._entries[folder].get(office, ()) for folder in FOLDERS)
            if marks:
                await self._refresh_sessions()
            return election.view(office, candidates, active, marks, self._sessions)

    def _watch(self) -> None:
        """Begin to hear of changes, when somebody stands: a node that stands for nothing is not woken by every election."""
        for folder in () if self._ends else (*FOLDERS, seam.SESSIONS):
            self._ends.append(self._session.watch(folder, lambda folder=folder: self._heard(folder)))  # type: ignore[misc]

    async def _refresh(self, folder: str) -> None:
        if folder not in self._old:
            return
        by_office: dict[str, list[seam.Entry]] = {}
        for entry in await heeding.reread(self._session, folder, self._old):
            by_office.setdefault(election.office_of(entry), []).append(entry)
        self._entries[folder] = by_office
        if folder == election.DEPOSED:
            self._old.add(seam.SESSIONS)  # Word of a session may come later than the mark that names it.

    async def _refresh_sessions(self) -> None:
        if seam.SESSIONS not in self._old:
            return
        self._old.discard(seam.SESSIONS)
        try:
            self._sessions = frozenset(await self._session.sessions())
        except BaseException:
            self._old.add(seam.SESSIONS)
            raise

    def _heard(self, folder: str) -> None:
        self._old.add(folder)
        self._changed()
