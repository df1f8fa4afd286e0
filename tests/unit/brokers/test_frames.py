"""Frames out of bytes, however these are cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stomp import utils

from callboard.brokers import frames

LIMIT = 1_000
MESSAGE = (
    b"MESSAGE\nsubscription:1\nack:ID\\cone-1\nmessage-id:ID\\cone-1\\c1\ndestination:/queue/a\nsubscription:2\n\n"
    b'{"kind": "a.b"}\0'
)
LONG = b"MESSAGE\nack:2\ncontent-length:3\n\n\0\0\n\0"


def cut(*parts, limit=LIMIT):
    splitter = frames.Splitter(limit)
    return [frame for part in parts for frame in splitter.feed(part)], splitter.nonsense


def test_a_message():
    ([frame], nonsense) = cut(MESSAGE)
    assert (frame.command, frame.body, frame.dropped, nonsense) == ("MESSAGE", b'{"kind": "a.b"}', 0, 0)
    assert frame.headers == {
        "subscription": "1",
        "ack": "ID:one-1",
        "message-id": "ID:one-1:1",
        "destination": "/queue/a",
    }
    assert frame.ack == "ID\\cone-1"


def test_lengths_heartbeats_and_other_line_ends():
    found, nonsense = cut(b"\n\n" + LONG + b"\r\n\n" + b"RECEIPT\r\nreceipt-id:7\r\n\r\n\0\n" + LONG)
    assert [(frame.command, frame.body) for frame in found] == [("MESSAGE", b"\0\0\n"), ("RECEIPT", b""), ("MESSAGE", b"\0\0\n")]
    assert found[1].headers == {"receipt-id": "7"} and nonsense == 0


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_any_cut_gives_the_same(size):
    stream = b"\n" + MESSAGE + LONG + b"\r\n" + MESSAGE.replace(b"\n", b"\r\n") + b"what\0" + LONG + b"\n"
    parts = [stream[place : place + size] for place in range(0, len(stream), size)]
    assert cut(*parts) == cut(stream)
    assert len(cut(stream)[0]) == 4


_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(_text.filter(bool), _text, max_size=5), st.binary(max_size=60))
def test_what_the_library_writes_is_read_as_it_was(headers, body):
    headers = {name: value for name, value in headers.items() if name != "content-length"}
    escaped = {_escaped(name): _escaped(value) for name, value in headers.items()}
    written = utils.pack(utils.convert_frame(utils.Frame("MESSAGE", {**escaped, "content-length": len(body)}, body)))
    ([frame], _) = cut(written)
    assert frame.body == body
    assert frame.headers == {**headers, "content-length": str(len(body))}


def _escaped(text):
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace(":", "\\c").replace("\r", "\\r")


@pytest.mark.parametrize("told", [True, False])
def test_a_body_over_the_limit_is_dropped_and_what_follows_is_not(told):
    body = b"x" * (LIMIT + 1)
    length = b"content-length:1001\n" if told else b""
    stream = b"MESSAGE\nack:9\n" + length + b"\n" + body + b"\0\n" + MESSAGE
    for parts in ([stream], [stream[place : place + 300] for place in range(0, len(stream), 300)]):
        found, nonsense = cut(*parts)
        assert [(frame.ack, frame.body, frame.dropped > LIMIT) for frame in found] == [
            ("9", b"", True),
            ("ID\\cone-1", b'{"kind": "a.b"}', False),
        ]
        assert nonsense == 0


def test_a_body_at_the_limit_is_kept():
    ([frame], _) = cut(b"MESSAGE\nack:9\n\n" + b"x" * LIMIT + b"\0")
    assert len(frame.body) == LIMIT and frame.dropped == 0


def test_what_is_no_frame_is_skipped_to_its_end():
    found, nonsense = cut(b"MESSAGE\nack:1\n\na\0b\nMESSAGE\n\0" + MESSAGE)
    assert [frame.body for frame in found] == [b"a", b'{"kind": "a.b"}']
    assert nonsense == 1


@pytest.mark.parametrize("length", ["x", "-1", "2", "4", "30", "9" * 30])
def test_a_length_that_leads_to_no_end_counts_for_nothing(length):
    """A sender's property of a text is written as if the broker said it."""
    stream = b"MESSAGE\nack:1\ncontent-length:" + length.encode() + b"\n\nabc\0\n" + MESSAGE
    assert [frame.body for frame in cut(stream, *[b"\n"] * frames.STALLED_BEATS)[0]] == [b"abc", b'{"kind": "a.b"}']


def test_a_length_that_swallows_what_follows_is_given_up_when_the_broker_only_beats():
    stream = b"MESSAGE\nack:1\ncontent-length:900\n\nabc\0\n" + MESSAGE
    beats = [b"\n"] * frames.STALLED_BEATS
    assert cut(stream, *beats[1:]) == ([], 0)
    assert [frame.body for frame in cut(stream, *beats, MESSAGE)[0]] == [b"abc", b'{"kind": "a.b"}', b'{"kind": "a.b"}']
    splitter = frames.Splitter(LIMIT)
    ([over]) = splitter.feed(stream.replace(b"900", b"900000"))
    assert (over.ack, over.dropped) == ("1", 900_000)
    with pytest.raises(frames.Malformed, match="shorter"):
        for beat in beats:
            splitter.feed(beat)


def test_of_a_frame_with_too_many_headers_the_body_is_dropped():
    stream = b"MESSAGE\nack:1\n" + b"a:b\n" * 20_000 + b"\nbody\0"
    for parts in ([stream + MESSAGE], [*(stream[place : place + 9_999] for place in range(0, len(stream), 9_999)), MESSAGE]):
        over, follows = cut(*parts)[0]
        assert (over.ack, over.body, over.dropped) == ("1", b"", len(stream) - 1)
        assert follows.body == b'{"kind": "a.b"}'


def test_headers_without_an_end(monkeypatch):
    monkeypatch.setattr(frames, "READABLE_HEAD_BYTES", 100_000)
    with pytest.raises(frames.Malformed, match="headers take more"):
        cut(b"MESSAGE\n" + b"a:b\n" * 30_000)


def test_headers_that_are_not_utf8_are_read_all_the_same():
    ([frame], _) = cut(b"MESSAGE\nack:1\nname:\xff\n\nbody\0")
    assert frame.headers["name"] == "\N{REPLACEMENT CHARACTER}"
