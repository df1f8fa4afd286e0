"""Where the keys of any TOML text stand: texts are written from drawn trees, in drawn ways, noting the line of every key."""

from __future__ import annotations

import json
import random
import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as some

from callboard.cluster import lines

KEYS = some.one_of(some.from_regex(r"[A-Za-z0-9_-]{1,6}", fullmatch=True), some.text("ab .=[]#'\"\\\n", min_size=1, max_size=5))
TEXTS = some.text("ab =[]{},#'\"\\\n\r", max_size=12)
LEAVES = some.one_of(
    some.integers(-9, 9),
    some.booleans(),
    some.floats(0, 1),
    TEXTS,
    some.lists(some.one_of(TEXTS, some.integers(0, 9)), max_size=3),
)
TREES = some.recursive(LEAVES, lambda below: some.dictionaries(KEYS, below, max_size=4), max_leaves=12)
FILES = some.dictionaries(KEYS, TREES, max_size=5)


class Writer:
    """Writes a tree; `found` is the line on which each key was written first."""

    def __init__(self, seed: int) -> None:
        self.text = ""
        self.found: dict[tuple[str, ...], int] = {}
        self._ways = random.Random(seed)

    def table(self, path: tuple[str, ...], tree: dict[str, Any]) -> None:
        """Plain values and inline tables first, as they belong to the header above; then tables of their own."""
        apart = {key for key, value in tree.items() if isinstance(value, dict) and self._choose("inline", "apart") == "apart"}
        for key in [key for key in tree if key not in apart]:
            self._filler()
            self._pair(path, key, tree[key], several_lines=True)
            self._say("\n")
        for key in sorted(apart):
            self._filler()
            whole = (*path, key)
            self._say("[")
            for place in range(len(whole)):
                self._key(whole[: place + 1], "." if place else "")
            self._say("]" + self._choose("", " # [x] = 1") + "\n")
            self.table(whole, tree[key])

    def _pair(self, path: tuple[str, ...], key: str, value: Any, *, several_lines: bool) -> None:
        self._key((*path, key), "")
        while isinstance(value, dict) and len(value) == 1 and self._choose("dotted", "not") == "dotted":
            path, (key, value) = (*path, key), next(iter(value.items()))
            self._key((*path, key), self._choose(".", " . "))
        self._say(self._choose("=", " = "))
        self._value((*path, key), value, several_lines=several_lines)

    def _value(self, path: tuple[str, ...], value: Any, *, several_lines: bool) -> None:
        if isinstance(value, dict):
            self._say("{")
            for place, (key, inner) in enumerate(value.items()):
                self._say(", " if place else " ")
                self._pair(path, key, inner, several_lines=False)
            self._say(" }")
        elif isinstance(value, list):
            self._say("[")
            for each in value:
                self._say(self._choose("", "\n", " # ] }\n"))
                self._value(path, each, several_lines=several_lines)
                self._say(",")
            self._say("]")
        elif isinstance(value, str):
            self._say(self._string(value))
        else:
            self._say(json.dumps(value))

    def _string(self, value: str) -> str:
        ways = [json.dumps(value)]
        if not set("'\n\r") & set(value):
            ways.append(f"'{value}'")
        if "'''" not in value and not value.endswith("'") and "\r" not in value:
            ways.append(f"'''\n{value}'''")
        if not set('\\"\r') & set(value):
            ways.append(f'"""\n{value}"""')
        return self._choose(*ways)

    def _key(self, path: tuple[str, ...], before: str) -> None:
        self._say(before)
        self.found.setdefault(path, self.text.count("\n") + 1)
        key = path[-1]
        bare = key.isascii() and all(letter.isalnum() or letter in "_-" for letter in key)
        self._say(key if bare and self._choose("bare", "not") == "bare" else json.dumps(key))

    def _filler(self) -> None:
        self._say(self._choose("", "\n", "# a = [1]\n", "  "))

    def _say(self, text: str) -> None:
        self.text += text

    def _choose(self, *ways: str) -> str:
        return self._ways.choice(ways)


@given(FILES, some.integers(0, 1 << 32))
def test_every_key_is_found_where_it_was_written(tree, seed):
    writer = Writer(seed)
    writer.table((), tree)
    assert tomllib.loads(writer.text) == tree
    assert lines.of(writer.text) == writer.found
