"""Messages survive every way of being cut into pieces; what is no message is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.rpc import frames

messages = st.one_of(
    st.builds(frames.Hello, st.text(), st.lists(st.integers(0, 9)).map(tuple)),
    st.builds(frames.Want, st.lists(st.integers(0, 9)).map(tuple)),
    st.builds(frames.Wanted, st.lists(st.integers(0, 9)).map(tuple)),
    st.builds(frames.Publish, st.integers(0, 2**31), st.binary(max_size=200)),
)


@given(st.lists(messages, max_size=8), st.integers(1, 50))
def test_any_cut_gives_the_same_messages(sent, size):
    stream = b"".join(map(frames.encode, sent))
    splitter = frames.Splitter()
    got = [message for at in range(0, len(stream), size) for message in splitter.feed(stream[at : at + size])]
    assert got == sent


def test_a_message_over_the_limit_is_refused_before_it_arrives():
    with pytest.raises(frames.Malformed, match="over the limit"):
        list(frames.Splitter(100).feed(frames.encode(frames.Publish(1, bytes(200)))[:4]))


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x91\x07", b"\x92\x04\x01"])
def test_what_is_no_message_is_refused(body):
    with pytest.raises(frames.Malformed):
        list(frames.Splitter().feed(len(body).to_bytes(4, "big") + body))
