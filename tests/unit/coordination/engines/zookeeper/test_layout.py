from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.coordination.engines.zookeeper import layout

WHERE = layout.Layout("/callboard")
words = st.text("abcdefghijklmnopqrstuvwxyz0123456789.-", min_size=1).filter(lambda word: word != "-")


@given(words, st.one_of(st.just(""), words), st.binary())
def test_what_is_written_is_read(token, session, body):
    header = layout.Header(token, session)
    assert layout.parse(header.line() + body) == (header, body)


@pytest.mark.parametrize("content", [b"", b"by hand", b"1 a\nbody", b"2 a b\n", b"1 \xff b\n"])
def test_what_somebody_else_wrote_is_none_of_ours(content):
    assert layout.parse(content) is None


def test_later_fields_are_ignored():
    assert layout.parse(b"1 token session later\nbody") == (layout.Header("token", "session"), b"body")


def test_where_things_lie():
    assert WHERE.entry("active/x") == "/callboard/entries/active/x"
    assert WHERE.folder("active") == "/callboard/entries/active"
    assert WHERE.folder("sessions") == WHERE.sessions == "/callboard/sessions"
    assert WHERE.session("node-1") == "/callboard/sessions/node-1"
    assert WHERE.seal("t.1") == "/callboard/seals/t.1"
    assert WHERE.ground() == ["/callboard", "/callboard/entries", "/callboard/seals", "/callboard/sessions"]
