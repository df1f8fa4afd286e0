"""What is read from ZooKeeper: entries, and what a write must know of them before it is sent.

A server may lag behind the others. Where something is not as an operation says it is, the server is first made to catch up
(`sync`), and only then believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from callboard import errors
from callboard.coordination import engine as seam
from callboard.coordination.engines.zookeeper import driver, layout, plan
from callboard.ensembles import requests

_AT_ONCE: Final = 250
"""Reads in one request."""


class _Found(msgspec.Struct, frozen=True):
    """An entry as a server has it; without a header when it has none."""

    header: layout.Header | None = None
    body: bytes = b""
    number: int = 0
    version: int = 0


class Reader:
    """Reads for one session. Remembers the headers of entries, which never change, by the number they belong to."""

    def __init__(self, of: driver.Driver, where: layout.Layout) -> None:
        self._driver = of
        self._where = where
        self._headers: dict[str, dict[str, tuple[int, layout.Header]]] = {}

    async def names(self, path: str) -> list[str]:
        """Return the names below a node; none when it is not there. Raises Interrupted, Refused."""
        (found,) = await self._driver.ask_all([requests.children(path)])
        if not isinstance(found, driver.Refused):
            return list(found)
        if found.code != requests.NO_NODE:
            raise found  # What there is, is not known: nothing is a statement, too.
        return []

    async def contents(self, paths: Sequence[str]) -> list[requests.Content | None]:
        """Return what nodes hold, None for those that are not there. Raises Interrupted, Refused."""
        found: list[requests.Content | None] = []
        for first in range(0, len(paths), _AT_ONCE):
            answer = await self._driver.ask(requests.Contents(paths[first : first + _AT_ONCE]))
            found += [_there(each) for each in answer]
        return found

    async def entries(self, folder: str) -> list[seam.Entry]:
        """Return a folder's entries by path. Raises Interrupted, Refused."""
        paths = [f"{folder}/{name}" for name in sorted(await self.names(self._where.folder(folder)))]
        found = dict(zip(paths, await self._look(paths), strict=True))
        there = {path: each for path, each in found.items() if each.header is not None}
        self._headers[folder] = {path: (each.number, each.header) for path, each in there.items() if each.header}
        return [seam.Entry(path, each.body, each.number, _session(each)) for path, each in there.items()]

    async def known(self, operations: Sequence[seam.Operation]) -> dict[int, plan.Known]:
        """Return what holds of the entries that operations name, by the operation's index. Raises Interrupted."""
        known: dict[int, plan.Known] = {}
        doubtful: list[int] = []
        for index, operation in enumerate(operations):
            if isinstance(operation, seam.Create | seam.Absent):
                continue
            header = self._header(operation.path, operation.number)
            if header is not None and not (isinstance(operation, seam.Replace) and operation.expected is not None):
                known[index] = plan.Known(header)
            else:
                doubtful.append(index)
        for behind in (False, True):
            if doubtful and behind:
                await self._driver.ask(requests.sync(self._where.seals))
            paths = [operations[index].path for index in doubtful]
            found = dict(zip(doubtful, await self._look(paths), strict=True))
            known |= {index: held for index, each in found.items() if (held := _held(operations, index, each))}
            doubtful = [index for index in doubtful if index not in known]
        return known

    def note(self, path: str, number: int, header: layout.Header | None) -> None:
        """Remember an entry that was just created, or None: that it is gone."""
        folder = self._headers.setdefault(path.partition("/")[0], {})
        if header is None:
            folder.pop(path, None)
        else:
            folder[path] = (number, header)

    async def ensure(self, folder: str) -> None:
        """Make the ground and a folder, where they are not there. Raises Interrupted, CoordinationError."""
        paths = [*self._where.ground(), self._where.folder(folder)]
        answers = await self._driver.ask_all([self._driver.multi([requests.create(path, b"")]) for path in paths])
        code = answers[-1].code if isinstance(answers[-1], driver.Refused) else answers[-1][0].code
        if code not in (requests.OK, requests.NODE_EXISTS):
            raise errors.CoordinationError(
                f"ZooKeeper does not let us make {paths[-1]} (code {code}): look at its access rules, and at the login in the URL"
            )

    def _header(self, path: str, number: int) -> layout.Header | None:
        remembered = self._headers.get(path.partition("/")[0], {}).get(path)
        return remembered[1] if remembered is not None and remembered[0] == number else None

    async def _look(self, paths: Sequence[str]) -> list[_Found]:
        return [_found(each) for each in await self.contents([self._where.entry(path) for path in paths])]


def _there(content: requests.Content | int) -> requests.Content | None:
    if not isinstance(content, int):
        return content
    if content != requests.NO_NODE:
        raise driver.Refused(content, f"code {content}")  # As with names: nothing is a statement, too.
    return None


def _found(content: requests.Content | None) -> _Found:
    parsed = layout.parse(content.body) if content is not None else None
    return _Found(*parsed, content.czxid, content.version) if content is not None and parsed is not None else _Found()


def _session(found: _Found) -> str | None:
    return (found.header.session or None) if found.header else None


def _held(operations: Sequence[seam.Operation], index: int, found: _Found) -> plan.Known | None:
    """Return what is known of an operation's entry if it is as the operation says."""
    operation = operations[index]
    assert not isinstance(operation, seam.Create | seam.Absent)
    if found.header is None or found.number != operation.number:
        return None
    if not isinstance(operation, seam.Replace) or operation.expected is None:
        return plan.Known(found.header)
    written = [each.body for each in operations[:index] if isinstance(each, seam.Replace) and each.path == operation.path]
    if operation.expected != (written[-1] if written else found.body):
        return None
    return plan.Known(found.header, requests.ANY if written else found.version)
