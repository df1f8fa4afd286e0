"""`@app.job`: what a declaration says, what it refuses, and what is left of the function."""

from __future__ import annotations

from typing import Any

import pytest

import callboard
from callboard import Callboard, Context, errors
from callboard.app import handler
from callboard.jobs import model

app = Callboard("images")


@app.job
async def bare(path: str) -> str:
    """Say the path."""
    return path.upper()


@app.job(
    name="pictures.render",
    queue="bulk",
    lane="short",
    priority=1,
    attempts=7,
    backoff=0.5,
    timeout=30,
    tags=["gpu", "gpu"],
    versions=(1, 2),
    runs_in="process",
)
def full(ctx: Context, frames: list[int]) -> int:
    return sum(frames)


def test_a_bare_declaration() -> None:
    kind = app.kinds["images.bare"]
    assert (kind.queue, kind.lane, kind.priority, kind.attempts) == ("default", model.Lane.LONG, 5, 3)
    assert (kind.backoff, kind.timeout, kind.tags, kind.versions) == (1.0, None, (), (1,))
    assert app.handlers["images.bare"].runs_in == "loop"


def test_a_full_declaration() -> None:
    kind = app.kinds["pictures.render"]
    assert (kind.queue, kind.lane, kind.priority, kind.attempts) == ("bulk", model.Lane.SHORT, 1, 7)
    assert (kind.backoff, kind.timeout, kind.tags, kind.version) == (0.5, 30, ("gpu",), 2)
    assert app.handlers["pictures.render"].runs_in == "process"


async def test_a_declared_function_is_still_a_function() -> None:
    assert await bare("x") == "X"
    assert bare.__name__ == "bare"
    assert bare.__doc__ == "Say the path."
    assert bare.kind.name == "images.bare"


def test_sync_functions_run_in_threads() -> None:
    own = Callboard("own")

    @own.job
    def plain() -> None: ...

    assert plain.handler.runs_in == "thread"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"queue": "Bad Queue"}, "label"),
        ({"lane": "medium"}, "lane 'medium'"),
        ({"priority": 10}, "priority 10 is out of range: 0 to 9"),
        ({"attempts": 0}, "attempts 0"),
        ({"attempts": True}, "attempts True"),
        ({"backoff": -1}, "backoff -1"),
        ({"timeout": 0}, "timeout 0"),
        ({"timeout": "soon"}, "timeout 'soon'"),
        ({"versions": ()}, "versions is empty"),
        ({"versions": (0,)}, "versions 0"),
        ({"tags": ["a,b"]}, "tag 'a,b'"),
        ({"name": "no good"}, "kind 'no good'"),
        ({"name": ""}, "kind ''"),
        ({"runs_in": "moon"}, "runs_in 'moon'"),
        ({"runs_in": "loop"}, "not async"),
        ({"runs_in": "process"}, "top of its module"),
    ],
)
def test_declarations_that_cannot_work_say_so_at_import(options: Any, said: str) -> None:
    own = Callboard("own")
    with pytest.raises(errors.InvalidInput) as caught:

        @own.job(**options)
        def f() -> None: ...

    assert said in caught.value.message
    assert not own.kinds


def test_more_that_cannot_work() -> None:
    own = Callboard("own")

    @own.job
    def f() -> None: ...

    with pytest.raises(errors.InvalidInput, match="declared twice"):
        own.job(f.handler.function)
    with pytest.raises(errors.InvalidInput, match="is not a function"):
        own.job(print)
    with pytest.raises(errors.InvalidInput, match="generator"):

        @own.job
        async def g() -> Any:
            yield 1

    with pytest.raises(errors.InvalidName):
        Callboard("no good")
    with pytest.raises(TypeError):

        @own.job(atempts=3)  # type: ignore[call-overload]
        def misspelt() -> None: ...


def test_options_are_those_of_a_submission() -> None:
    again = bare.options(priority=0).options(delay=3, tags=["a"])
    made = again.submission({"path": "x"})
    assert (made.kind, made.priority, made.delay, made.tags) == ("images.bare", 0, 3, ("a",))
    assert bare.submission({"path": "x"}).priority is None
    with pytest.raises(errors.InvalidInput, match="no option 'colour'"):
        bare.options(colour="red")


async def test_submitting_needs_a_connection() -> None:
    with pytest.raises(errors.InvalidInput, match="not connected"):
        await bare.submit(path="x")


def test_handlers_are_found_by_their_path() -> None:
    path = "callboard.builtin:echo"
    found = handler.locate(path)
    assert found.path == path
    for missing, said in ((path + "_not", "does not exist"), ("callboard.builtin:inspect_file", "not a declared job")):
        with pytest.raises(errors.AppNotFound, match=said):
            handler.locate(missing)


def test_the_public_names() -> None:
    for name in callboard.__all__:
        assert hasattr(callboard, name)
