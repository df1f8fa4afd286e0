"""Messages survive every way of being cut into pieces; what is no message is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.rpc import hub_frames

messages = st.one_of(
    st.builds(hub_frames.Hello, st.text(), st.lists(st.integers(0, 9)).map(tuple)),
    st.builds(hub_frames.Want, st.lists(st.integers(0, 9)).map(tuple)),
    st.builds(hub_frames.Wanted, st.lists(st.integers(0, 9)).map(tuple)),
    st.builds(hub_frames.Publish, st.integers(0, 2**31), st.binary(max_size=200)),
)


@given(st.lists(messages, max_size=8), st.integers(1, 50))
def test_any_cut_gives_the_same_messages(sent, size):
    stream = b"".join(map(hub_frames.encode, sent))
    splitter = hub_frames.Splitter()
    got = [message for at in range(0, len(stream), size) for message in splitter.feed(stream[at : at + size])]
    assert got == sent


def test_a_message_over_the_limit_is_refused_before_it_arrives():
    with pytest.raises(hub_frames.Malformed, match="over the limit"):
        list(hub_frames.Splitter(100).feed(hub_frames.encode(hub_frames.Publish(1, bytes(200)))[:4]))


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x91\x07", b"\x92\x04\x01"])
def test_what_is_no_message_is_refused(body):
    with pytest.raises(hub_frames.Malformed):
        list(hub_frames.Splitter().feed(len(body).to_bytes(4, "big") + body))
