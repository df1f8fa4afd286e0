"""Frames of all kinds, and any bytes: what is encoded is decoded, and what comes over the wire is at worst refused."""

import asyncio
import contextlib

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard import errors
from callboard.kit import clock
from callboard.rpc import connection, frames, handshake, limits, network, serving

words = st.text(max_size=20)
numbers = st.integers(-(2**63), 2**64 - 1)
json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=10,
)
OF_FIELDS = {
    "int": numbers,
    "str": words,
    "bytes": st.binary(max_size=50),
    "bool": st.booleans(),
    "dict[str, Any]": st.dictionaries(words, json, max_size=3),
    "dict[str, str] | None": st.none() | st.dictionaries(words, words, max_size=3),
    "Electorate | None": st.none() | st.builds(frames.Electorate, words, st.binary(max_size=50)),
}
KINDS = frames.Frame.__subclasses__()


def of_kind(kind):
    return st.builds(kind, *(OF_FIELDS[kind.__annotations__[name]] for name in kind.__struct_fields__))


any_frame = st.one_of([of_kind(kind) for kind in KINDS])
messages = st.lists(any_frame, max_size=5)


@given(messages)
def test_any_frames_come_back_as_they_were(message):
    assert frames.decode(frames.encode(message)) == message


@given(st.binary(max_size=200))
def test_any_bytes_are_frames_or_refused(said):
    try:
        decoded = frames.decode(said)
    except errors.MalformedFrame as error:
        assert "\n" not in error.message
    else:
        assert all(type(frame) in KINDS for frame in decoded)


@given(messages, st.data())
def test_cut_and_spoilt_messages_are_frames_or_refused(message, data):
    whole = bytearray(frames.encode(message))
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        del whole[place:]
    else:
        whole[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(errors.MalformedFrame):
        frames.decode(bytes(whole))


@given(any_frame, json)
def test_a_field_of_a_later_version_is_passed_over(frame, more):
    [fields] = msgspec.msgpack.decode(frames.encode([frame]))
    assert frames.decode(msgspec.msgpack.encode([[*fields, more]])) == [frame]


def test_every_kind_has_a_number_of_its_own():
    tags = [int(str(kind.__struct_config__.tag)) for kind in KINDS]
    assert sorted(tags) == list(range(1, len(KINDS) + 1))


@given(any_frame)
def test_the_weight_of_a_frame_is_near_its_size(frame):
    assert frames.weight(frame) >= len(frames.encode([frame])) // 4


class Owner:
    """Has one connection, and sees only what may be seen of it."""

    identity = handshake.Identity("c", "s", "a" * 32)
    clock = clock.SystemClock()
    limits = limits.Limits(in_flight=5)

    def __init__(self):
        self.table = serving.Table(self.identity.incarnation)
        self.ended = False
        self.refusals = self

    def warning(self, event, *, code, why, **facts):
        assert code and why

    def allowed(self, connection, link):
        return True

    def established(self, connection):
        pass

    def leaving(self, connection):
        pass

    def noticed(self, connection, notice):
        assert isinstance(notice, frames.Notice)

    def gone(self, connection, why):
        assert not self.ended
        self.ended = True


class Link:
    """Takes what is sent; all of it must be frames."""

    peer_server = ""

    def __init__(self):
        self.sent = []

    def send(self, message):
        assert len(message) <= network.MAX_MESSAGE
        self.sent += frames.decode(message)

    def close(self):
        pass


said = st.one_of(
    st.binary(max_size=100), messages.map(frames.encode), st.lists(any_frame, min_size=1, max_size=3).map(frames.encode)
)
secret_known = st.booleans()


@settings(deadline=None)
@given(secret_known, st.lists(said, max_size=8), st.booleans())
def test_nothing_that_comes_harms_the_node(greeted, messages, asking):
    async def play():
        owner, link = Owner(), Link()
        made = connection.Connection(owner, handshake.Dialled(owner.identity, b"secret"))
        made.connected(link)
        if greeted:
            made.out.flush()
            stranger = handshake.Identity("c", "s", "b" * 32)
            address = network.Address("a" * 32, "", 0)
            hello = handshake.Dialling(stranger, address, b"secret").heard(link.sent[0])[1]
            assert hello is not None
            made.received(frames.encode([hello]))
            assert made.known
        asked = None
        if greeted and asking:
            request = frames.Request(made.asking.new_id(), "x", "main", "m", 0, 10**6, b"")
            asked = asyncio.ensure_future(made.asking.ask(request, 5))
            await asyncio.sleep(0)
        for message in messages:
            made.received(message)
        await asyncio.sleep(0)
        assert made.known == greeted
        made.close("the end")
        assert owner.ended
        if asked is not None:
            await asyncio.wait([asked], timeout=1)
            assert asked.done() and (asked.exception() is None or isinstance(asked.exception(), errors.CallboardError))
        running = made.answering.stop() if made.known else []
        if running:
            await asyncio.wait(running)

    asyncio.run(play())
