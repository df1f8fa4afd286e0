"""On which line of a TOML text a key stands: `tomllib` reads what it says, not where. Pure.

Only for texts that `tomllib` has read: what is no TOML is not noticed here.
"""

from __future__ import annotations

import bisect
import re
import tomllib
from typing import Final

Path = tuple[str, ...]

_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE: Final = re.compile(r"[ \t]*")
_KEY: Final = re.compile(r'[A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|\'[^\']*\'')
_VALUES: Final = (
    re.compile(r'"""(?:\\.|[^\\])*?"""(?!")', re.DOTALL),
    re.compile(r"'''.*?'''(?!')", re.DOTALL),
    re.compile(r'"(?:\\.|[^"\\])*"'),
    re.compile(r"'[^']*'"),
    re.compile(r"[^,\]}#\n]+"),
)


def of(text: str) -> dict[Path, int]:
    """Return the line, counted from 1, on which each key of a valid TOML text stands first, by its path.

    A table stands where its own header or the first of its keys is. All tables of one array have the same path.
    """
    return _Walk(text).all()


class _Walk:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._ends = [place for place, letter in enumerate(text) if letter == "\n"]
        self._found: dict[Path, int] = {}

    def all(self) -> dict[Path, int]:
        table: Path = ()
        while self._skip(_BLANK) < len(self._text):
            if self._text[self._at] == "[":
                self._pass("[")
                table = self._key(())
                self._pass("]")
            else:
                self._pair(table)
        return self._found

    def _pair(self, table: Path) -> None:
        path = self._key(table)
        self._pass("=")
        self._value(path)

    def _key(self, table: Path) -> Path:
        """A key, with dots or without; noted with every table that it makes on its way."""
        path = table
        while True:
            self._skip(_SPACE)
            line = bisect.bisect_left(self._ends, self._at) + 1
            part = self._take(_KEY)
            path = (*path, part if part[0] not in "\"'" else next(iter(tomllib.loads(f"{part} = 0"))))
            self._found.setdefault(path, line)
            self._skip(_SPACE)
            if not self._text.startswith(".", self._at):
                return path
            self._at += 1

    def _value(self, path: Path) -> None:
        self._skip(_BLANK)
        opening = self._text[self._at]
        if opening == "[":
            self._several("]", path)
        elif opening == "{":
            self._several("}", path)
        else:
            self._take(next(pattern for pattern in _VALUES if pattern.match(self._text, self._at)))

    def _several(self, closing: str, path: Path) -> None:
        """What an array or an inline table holds."""
        self._at += 1
        while True:
            self._skip(_BLANK)
            if self._text[self._at] == closing:
                self._at += 1
                return
            if self._text[self._at] == ",":
                self._at += 1
            elif closing == "]":
                self._value(path)
            else:
                self._pair(path)

    def _skip(self, pattern: re.Pattern[str]) -> int:
        found = pattern.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return self._at

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        assert found is not None
        self._at = found.end()
        return found[0]

    def _pass(self, sign: str) -> None:
        """Go behind a sign, once or more often, and the spaces around it."""
        self._skip(_SPACE)
        while self._text.startswith(sign, self._at):
            self._at += 1
        self._skip(_SPACE)
