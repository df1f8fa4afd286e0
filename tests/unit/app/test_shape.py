"""Annotations decide what arguments and results may be, and how they travel."""

from __future__ import annotations

import dataclasses
import enum
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

import msgspec
import pytest

from callboard import errors
from callboard.app import Context
from callboard.app.shape import Arguments, Result
from callboard.kit import codec


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Leaf:
    at: datetime
    size: int = 1


class Tree(msgspec.Struct):
    leaves: list[Leaf] = []
    children: list[Tree] = []


class Foreign:
    pass


@dataclasses.dataclass
class Picky:
    size: int

    def __post_init__(self) -> None:
        raise {0: KeyError("zero"), 1: ValueError("one")}[self.size]


NOW = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)


def simple(path: str, width: int = 128, flags: dict[str, list[bool]] | None = None) -> None: ...


def rich(
    tree: Tree, colour: Colour = Colour.RED, raw: bytes = b"", ratio: float = 0.5, *, by_id: dict[int, str] | None = None
) -> None: ...


def picky(it: Picky) -> None: ...


def loose(value, other=()): ...


def timed(at: datetime, day: date | None = None, span: timedelta = timedelta(0), mode: Literal["a", "b"] = "a") -> None: ...


@pytest.mark.parametrize(
    ("function", "given", "stored", "values"),
    [
        (simple, {"path": "x"}, {"path": "x"}, ("x", 128, None)),
        (simple, {"path": "x", "flags": {"a": [True]}}, {"path": "x", "flags": {"a": [True]}}, ("x", 128, {"a": [True]})),
        (
            rich,
            {"tree": Tree([Leaf(NOW)]), "colour": Colour.RED, "raw": b"hi", "by_id": {7: "seven"}},
            {
                "tree": {"leaves": [{"at": "2026-05-01T12:30:00Z", "size": 1}], "children": []},
                "colour": "red",
                "raw": b"hi",
                "by_id": {"7": "seven"},
            },
            (Tree([Leaf(NOW)]), Colour.RED, b"hi", 0.5, {7: "seven"}),
        ),
        (
            rich,  # As JSON brings it.
            {"tree": {"children": [{}]}, "colour": "red", "raw": "aGk=", "ratio": 2, "by_id": {"7": "seven"}},
            {"tree": {"leaves": [], "children": [{"leaves": [], "children": []}]}, "colour": "red", "raw": b"hi", "ratio": 2.0}
            | {"by_id": {"7": "seven"}},
            (Tree([], [Tree()]), Colour.RED, b"hi", 2.0, {7: "seven"}),
        ),
        (loose, {"value": {"any": [1, None, NOW]}}, {"value": {"any": [1, None, "2026-05-01T12:30:00Z"]}}, None),
        (
            timed,
            {"at": "2026-05-01T14:30:00+02:00", "day": date(2026, 5, 1), "span": timedelta(hours=1)},
            {"at": "2026-05-01T14:30:00+02:00", "day": "2026-05-01", "span": "PT3600S"},
            (NOW, date(2026, 5, 1), timedelta(hours=1), "a"),
        ),
    ],
)
def test_arguments_there_and_back(function: Any, given: Any, stored: Any, values: Any) -> None:
    arguments = Arguments("t.f", function)
    encoded = arguments.encode(given)
    assert codec.unpack(encoded) == stored
    if values is not None:
        assert arguments.decode(encoded) == values
    assert arguments.encode(dict(reversed(given.items()))) == encoded


@pytest.mark.parametrize(
    ("function", "given", "said"),
    [
        (simple, {}, "missing required field 'path'"),
        (simple, {"path": 3}, "Expected 'str', got 'int' at 'path'"),
        (simple, {"path": "x", "width": True}, "Expected 'int', got 'bool'"),
        (simple, {"path": "x", "width": 2**64}, "ints"),
        (simple, {"path": "\ud800"}, "surrogates"),
        (simple, {"path": "x", "depth": 1}, "unknown field 'depth'"),
        (simple, {"path": "x", 3: 1}, "Expected 'str'"),
        (rich, {"tree": {}, "ratio": float("nan")}, "nan"),
        (rich, {"tree": {}, "raw": "not base64!"}, "Invalid base64"),
        (rich, {"tree": Tree([Leaf(datetime(2026, 1, 1))])}, "no offset"),
        (rich, {"tree": {"leaves": [{"at": "2026-01-01T00:00:00"}]}}, "no offset"),
        (rich, {"tree": Foreign()}, "got 'Foreign'"),
        (timed, {"at": NOW, "mode": "c"}, "Invalid enum value 'c'"),
        (picky, {"it": {"size": 0}}, "zero"),
        (picky, {"it": {"size": 1}}, "one"),
        (loose, {"value": datetime(2026, 1, 1)}, "no offset"),
        (loose, {"value": Foreign()}, "unsupported"),
        (loose, {"value": [float("inf")]}, "inf"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(function: Any, given: Any, said: str) -> None:
    with pytest.raises(errors.InvalidArguments) as caught:
        Arguments("t.f", function).encode(given)
    assert said in caught.value.message
    assert "t.f" in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("function", "stored"),
    [
        (simple, b"\x81"),
        (simple, b""),
        (simple, b"\x90"),
        (simple, codec.pack_trusted({"path": 1})),
        (timed, codec.pack_trusted({"at": "2026-01-01T00:00:00"})),
        (picky, codec.pack_trusted({"it": {"size": 0}})),
    ],
)
def test_bad_stored_arguments_are_refused(function: Any, stored: bytes) -> None:
    with pytest.raises(errors.InvalidArguments):
        Arguments("t.f", function).decode(stored)


def test_bytes_of_a_submitter_that_did_not_know_the_kind() -> None:
    assert Arguments("t.f", rich).decode(codec.pack_trusted({"tree": {}, "raw": "aGk="}))[2] == b"hi"


def test_arguments_reach_their_parameters() -> None:
    def mixed(ctx: Context, a: int, /, b: int, c: int = 3, *, d: int = 4, e: list[int] = [5]) -> Any:  # noqa: B006
        return ctx, a, b, c, d, e

    arguments = Arguments("t.mixed", mixed)
    assert arguments.names == ("a", "b", "c", "d", "e")
    assert arguments.wants_context
    context: Any = object()
    called = arguments.call(mixed, arguments.decode(arguments.encode({"b": 2, "a": 1})), context)
    assert called == (context, 1, 2, 3, 4, [5])


def test_a_context_is_known_by_its_annotation_or_its_name() -> None:
    def by_name(ctx, n: int): ...

    def just_an_argument(ctx: str): ...

    assert Arguments("t.a", by_name).names == ("n",)
    assert Arguments("t.b", just_an_argument).names == ("ctx",)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda *args: None, "*args"),
        (lambda **more: None, "**more"),
    ],
)
def test_parameters_without_names(function: Any, said: str) -> None:
    with pytest.raises(errors.InvalidInput, match="have names") as caught:
        Arguments("t.f", function)
    assert said in caught.value.message


def test_declarations_that_cannot_work() -> None:
    def foreign(value: dict[str, list[Foreign]]) -> None: ...

    def late(n: int, ctx: Context) -> None: ...

    def unknown(n: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    for function, said in ((foreign, "Foreign"), (late, "first parameter"), (unknown, "Nowhere")):
        with pytest.raises(errors.InvalidInput, match=said):
            Arguments("t.f", function)

    def gives_foreign() -> Foreign:
        return Foreign()

    with pytest.raises(errors.InvalidInput, match="the result of t"):
        Result("t.f", gives_foreign)


def result(annotation: Any) -> Result:
    def function(): ...

    function.__annotations__["return"] = annotation
    return Result("t.f", function)


@pytest.mark.parametrize(
    ("annotation", "value", "plain"),
    [
        (int, 3, 3),
        (str, "x", "x"),
        (bytes, b"x", b"x"),
        (float, 3, 3),
        (Any, {"a": [1, 2.5, NOW]}, {"a": [1, 2.5, "2026-05-01T12:30:00Z"]}),
        (Leaf, Leaf(NOW), {"at": "2026-05-01T12:30:00Z", "size": 1}),
        (list[Colour], [Colour.RED], ["red"]),
        (dict[int, tuple[int, str]], {1: (2, "x")}, {"1": [2, "x"]}),
        (set[int], {4}, [4]),
    ],
)
def test_results_there_and_back(annotation: Any, value: Any, plain: Any) -> None:
    shape = result(annotation)
    encoded = shape.encode(value)
    assert encoded is not None
    assert codec.unpack(encoded) == plain
    if annotation is not Any:
        assert shape.restore(plain) == value


@pytest.mark.parametrize("annotation", [Any, None, int | None])
def test_no_result_is_no_bytes(annotation: Any) -> None:
    assert result(annotation).encode(None) is None
    assert result(annotation).restore(None) is None


@pytest.mark.parametrize(
    ("annotation", "value", "said"),
    [
        (int, True, "Expected 'int', got 'bool'"),
        (int, None, "Expected 'int', got 'null'"),
        (None, 3, "Expected 'null', got 'int'"),
        (int, 2**70, "ints"),
        (str, "\ud800", "surrogates"),
        (Any, object(), "unsupported"),
        (Any, float("nan"), "nan"),
        (Any, {"a": datetime(2026, 1, 1)}, "no offset"),
        (Leaf, Leaf(datetime(2026, 1, 1)), "no offset"),
        (dict[str, int], {"a": "b"}, "Expected 'int', got 'str'"),
    ],
)
def test_results_that_cannot_be_kept(annotation: Any, value: Any, said: str) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        result(annotation).encode(value)
    assert said in caught.value.message


def test_a_stored_result_that_fits_no_more() -> None:
    with pytest.raises(errors.InvalidInput, match="does not fit"):
        result(int).restore("three")
