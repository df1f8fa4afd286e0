"""A cluster's file, key by key: what is a setting and fits its type, and what is wrong, with the line and the nearest known key.

Collects faults instead of stopping at the first. What several keys must be together is judged in `rules`.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import msgspec

from callboard import errors, settings
from callboard.cluster import lines

TOP: Final[Mapping[str, str]] = {
    "version": "A number from 1 on, which has to be there. Count it up at each change: the highest one is the newest file.",
    "groups": "Which group serves which domains, as GROUP = [DOMAINS]; a domain means its subtree, less what other groups name,"
    ' and `.` all domains. Without it: `main = ["."]`.',
    "sites": "A table for each site. Without any there is one, `main`.",
    "servers": "A table for each server, under the name that its certificate has; `auto` is for those that have no table of"
    " their own.",
}
"""Keys of the file itself, with their meaning; every other one is a setting, for all servers."""
SERVER: Final[Mapping[str, str]] = {
    "address": "Where nodes of other servers reach those of this one: a name or an address of its own. It has to be there where"
    " there is more than one server; those without a table use the one that they have on their way to the coordination.",
    "site": "The site of the server. It has to be there where there is more than one.",
}
"""The same of a server's table."""
_EVERYWHERE: Final = {
    "service.groups": "write [groups], with a line GROUP = [DOMAINS] for each",
    "wire.server": "the name of its table is the name of a server",
    "wire.host": "write it as the address of a server",
}
ELSEWHERE: Final[Mapping[str, Mapping[str, str]]] = {
    "top": _EVERYWHERE | {"site": "write it into the table of a server, or leave it out where there is one site"},
    "site": _EVERYWHERE
    | {"cluster": "write it at the top: it is the same for all", "site": "the name of its table is that of a site"},
    "server": _EVERYWHERE
    | {
        "cluster": "write it at the top: it is the same for all",
        "coordination.url": "write it at the top or into the table of a site: one site has one coordination",
    },
}
"""By the kind of table: settings that are said in another way or place, and in which."""
_BARE: Final = re.compile("[A-Za-z0-9_-]+")
_SETTINGS: Final = tuple(settings.fields())
_GROUPS: Final = frozenset(name.rpartition(".")[0] for name in _SETTINGS) - {""}
_TOLD_LINE: Final = re.compile(r" \(at line (\d+), column \d+\)$")


class Fault(msgspec.Struct, frozen=True, order=True):
    """One thing that is wrong: where, and a line that says so, with the file."""

    line: int
    said: str


class Reading:
    """A file as TOML has it, with what was found wrong in it so far."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.faults: list[Fault] = []
        self.tables: dict[str, Any] = {}
        self._lines: dict[lines.Path, int] = {}
        try:
            self.tables = tomllib.loads(text)
            self._lines = lines.of(text)
        except tomllib.TOMLDecodeError as error:
            told = _TOLD_LINE.search(str(error))
            line = int(told[1]) if told else text.rstrip("\n").count("\n") + 1
            why = _TOLD_LINE.sub("", str(error))
            self.faults.append(Fault(line, f"{file}:{line}: this is not TOML: {why[:1].lower()}{why[1:]}"))

    @property
    def usable(self) -> bool:
        """Whether it is TOML at all."""
        return not self.faults or bool(self.tables)

    def place(self, path: lines.Path) -> str:
        """FILE:LINE of a key, or of the nearest table around one that is missing."""
        return f"{self.file}:{self._line(path)}"

    def has(self, path: lines.Path) -> bool:
        """Whether the file has a key."""
        return path in self._lines

    def wrong(self, path: lines.Path, why: str) -> None:
        """Note what is wrong with a key."""
        self.faults.append(Fault(self._line(path), f"{self.place(path)}: {shown(path)}: {why}"))

    def table(self, path: lines.Path) -> dict[str, Any]:
        """Return a table, an empty one where there is none or what is there is no table."""
        found: dict[str, Any] = self.tables
        for part in path:
            inner = found.get(part, {})
            if not isinstance(inner, dict):
                self.wrong(path, f"is a table: write [{shown(path)}]")
                return {}
            found = inner
        return found

    def settings(self, path: lines.Path, kind: str, own: Collection[str] = ()) -> dict[str, Any]:
        """Return the settings in a table by dotted name, less its own keys; what is none or does not fit is noted."""
        found = {}
        elsewhere = ELSEWHERE[kind]
        for below, value in _leaves({key: value for key, value in self.table(path).items() if key not in own}):
            name, full = ".".join(below), path + below
            if name in elsewhere:
                self.wrong(full, elsewhere[name])
            elif name in _SETTINGS:
                try:
                    found[name] = settings.checked(name, value, self.place(full), shown=shown(full))
                except errors.InvalidSetting as error:
                    self.faults.append(Fault(self._line(full), error.message))
            elif value != {} or name not in _GROUPS:
                known = [*own, *(setting for setting in _SETTINGS if setting not in elsewhere)]
                self._unknown(full, path, name, known)
        return found

    def text(self, path: lines.Path) -> str | None:
        """Return a key's text, None where there is none."""
        if not self.has(path):
            return None
        value = self.table(path[:-1])[path[-1]]
        if not isinstance(value, str) or not value:
            self.wrong(path, "is text, in quotation marks")
            return None
        return value

    def nearest(self, path: lines.Path, what: str, word: str, known: list[str]) -> None:
        """Note a name that should be one of some names."""
        near = settings.nearest(word, known)
        self.wrong(
            path, f"there is no {what} {word!r:.80}: " + (f"did you mean {near}?" if near else f"there is {', '.join(known)}")
        )

    def _unknown(self, full: lines.Path, path: lines.Path, name: str, known: list[str]) -> None:
        near = settings.nearest(name, known)
        mend = f"did you mean {shown((*path, *near.split('.')))}?" if near else "see the reference of this file"
        self.wrong(full, f"is not a key of this file: {mend}")

    def _line(self, path: lines.Path) -> int:
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)


def shown(path: lines.Path) -> str:
    """Write a path as TOML has it."""
    return ".".join(part if _BARE.fullmatch(part) else json.dumps(part) for part in path)


def _leaves(table: Mapping[str, Any]) -> Iterator[tuple[lines.Path, Any]]:
    for key, value in table.items():
        if isinstance(value, dict) and value:
            for below, inner in _leaves(value):
                yield (key, *below), inner
        else:
            yield (key,), value
