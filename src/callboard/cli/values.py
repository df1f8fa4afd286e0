"""Reading what a command was given: `name=value` arguments, JSON when it is JSON and text otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from callboard import errors


def arguments(given: Iterable[str]) -> dict[str, Any]:
    """Return named arguments from `name=value` words. Raises InvalidInput for a word without `=` and a name given twice.

    A value that is JSON counts as such (`3`, `true`, `null`, `[1, 2]`, `{"a": 1}`, `"3"`); any other is text.
    """
    named: dict[str, Any] = {}
    for word in given:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise errors.InvalidInput(f"{word!r:.60} is not name=value: write arguments like width=128")
        if name in named:
            raise errors.InvalidInput(f"the argument {name!r:.60} was given twice: give it once")
        named[name] = value(text)
    return named


def value(text: str) -> Any:
    """Return what a word means: the JSON that it is, or the word itself."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return text


def texts(given: Iterable[str], what: str) -> dict[str, str]:
    """Return named texts from `name=value` words, the values as they are. Raises InvalidInput naming `what`."""
    named: dict[str, str] = {}
    for word in given:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise errors.InvalidInput(f"{what} {word!r:.60} is not name=value: write it like team=print")
        named[name] = text
    return named
