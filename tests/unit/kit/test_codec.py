"""Payloads: what may be in them, and that equal ones are equal bytes."""

from __future__ import annotations

import dataclasses
import enum
import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from callboard import errors
from callboard.kit import codec


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -(1 << 63), (1 << 64) - 1, 1.5, "", "ü\x00", b"\xff", [], [1, [2]], {}, {"a": {"b": [None, b""]}}],
)
def test_json_shaped_values_come_back(value: Any) -> None:
    assert codec.unpack(codec.pack(value, "args")) == value


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    colour: Colour


class Box(msgspec.Struct):
    point: Point
    at: datetime


def test_python_values_become_json_shaped() -> None:
    box = Box(Point(1, Colour.RED), datetime(2025, 1, 2, tzinfo=UTC))
    plain = {"point": {"x": 1, "colour": "red"}, "at": "2025-01-02T00:00:00Z"}
    assert codec.unpack(codec.pack({"box": box, "pair": (1, 2)}, "args")) == {"box": plain, "pair": [1, 2]}


def test_equal_payloads_have_equal_bytes() -> None:
    assert codec.pack({"a": 1, "b": {"x": 1, "y": 2}}, "args") == codec.pack({"b": {"y": 2, "x": 1}, "a": 1}, "args")


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        {"a": [{"b": -float("inf")}]},
        {1: 2},
        {"a": {b"b": 1}},
        1 << 64,
        -(1 << 63) - 1,
        object(),
        {"a": {1j}},
        "\ud800",
        {"\udfff": 1},
    ],
)
def test_what_json_has_no_word_for_is_refused(value: Any) -> None:
    with pytest.raises(errors.InvalidInput, match="the result") as raised:
        codec.pack(value, "the result")
    assert "\n" not in str(raised.value)


def test_bottomless_values_are_refused() -> None:
    with pytest.raises(errors.InvalidInput, match="args"):
        codec.pack(deep(), "args")


def test_bytes_are_base64_in_json() -> None:
    assert json.loads(codec.to_json({"a": b"\xff\x00", "b": [1, None]})) == {"a": "/wA=", "b": [1, None]}
