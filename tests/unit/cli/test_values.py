"""What `name=value` words mean."""

from __future__ import annotations

import pytest

from callboard import errors
from callboard.cli import values


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("n=3", 3),
        ("n=-2.5", -2.5),
        ("n=true", True),
        ("n=null", None),
        ("n=[1, 2]", [1, 2]),
        ('n={"a": {"b": 1}}', {"a": {"b": 1}}),
        ('n="3"', "3"),
        ("n=", ""),
        ("n=hello world", "hello world"),
        ("n=a=b", "a=b"),
        ("n=/tmp/x.png", "/tmp/x.png"),
        ("n=NaN", "NaN"),
        ("n=[1,", "[1,"),
        ("n=é", "é"),
    ],
)
def test_a_value_is_json_when_it_is_json_and_text_otherwise(word, meaning):
    assert values.arguments([word]) == {"n": meaning}


def test_deep_nesting_is_text_and_no_crash():
    assert values.value("[" * 100_000) == "[" * 100_000


def test_several_arguments_keep_their_names():
    assert values.arguments(["path=a.png", "width=128"]) == {"path": "a.png", "width": 128}


@pytest.mark.parametrize("word", ["width", "=3", ""])
def test_a_word_without_a_name_is_refused(word):
    with pytest.raises(errors.InvalidInput, match="name=value"):
        values.arguments([word])


def test_an_argument_given_twice_is_refused():
    with pytest.raises(errors.InvalidInput, match="'a' was given twice"):
        values.arguments(["a=1", "a=2"])


def test_texts_are_left_as_they_are():
    assert values.texts(["team=3", "trace=a=b"], "--meta") == {"team": "3", "trace": "a=b"}
    with pytest.raises(errors.InvalidInput, match="--meta 'team' is not name=value"):
        values.texts(["team"], "--meta")
