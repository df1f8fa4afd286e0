"""What a node makes of others that are wrong, hostile or broken: a typed error, nothing hangs, proper ones go on."""

import asyncio

import pytest
import structlog

from callboard import errors
from callboard.rpc import asking, frames, network, sockets
from tests.unit.rpc import nodes as kit
from tests.unit.rpc.nodes import Hanging, Service, echo, until


def answered(stranger):
    return [frame for frame in stranger.got if isinstance(frame, frames.Reply | frames.Failure | frames.Refused)]


@pytest.mark.parametrize(
    ("error", "wrong"),
    [
        (errors.WrongCluster, {"cluster": "other"}),
        (errors.WrongSecret, {"secret": b"guess"}),
    ],
)
async def test_a_wrong_node_is_refused_on_both_sides(nodes, error, wrong):
    one, two = await nodes.start(), await nodes.start(Service(echo=echo), **wrong)
    with structlog.testing.capture_logs() as logged, pytest.raises(error) as caught:
        await one.ask(two)
    assert caught.value.data["ran"] == "no"
    assert error.code in {line.get("code") for line in logged}
    assert not one.peers.connections() and not two.peers.connections()


async def test_a_dialler_that_does_not_know_the_secret_hears_it_as_well(nodes):
    one, two = await nodes.start(secret_of=lambda _address: b"guess"), await nodes.start(Service(echo=echo))
    with pytest.raises(errors.WrongSecret, match="does not know the secret"):
        await one.ask(two)


async def test_a_node_whose_secret_is_not_known_is_gone(nodes):
    one, two = await nodes.start(secret_of=lambda _address: None), await nodes.start()
    with pytest.raises(errors.Unreachable, match="is gone"):
        await one.ask(two)


async def test_neither_secret_nor_certificate_lets_nobody_in(nodes):
    one, two = await nodes.start(secret_of=lambda _address: b""), await nodes.start(Service(echo=echo), secret=b"")
    with pytest.raises(errors.Unreachable):
        await one.ask(two)


async def test_one_that_stands_in_for_a_node_without_its_secret_is_found_out(nodes):
    def script(stranger, came):
        if any(isinstance(frame, frames.Hello) for frame in came):
            stranger.say(frames.Welcome(b"nothing"))

    one = await nodes.start()
    with pytest.raises(errors.WrongSecret, match="stands in"):
        await one.ask(await nodes.stranger(script))


@pytest.mark.parametrize(("version", "min_version"), [(0, 0), (99, 98)])
async def test_a_node_of_another_version_is_refused(nodes, version, min_version):
    one, two = await nodes.start(), await nodes.start()
    stranger = await kit.dial(two, greet=False)
    stranger.say(frames.Hello(version, min_version, kit.CLUSTER, "", "x", b"n", b"p"))
    await until(lambda: stranger.why)
    assert answered(stranger)[0].code == "wrong_version"

    class Other(kit.Stranger):
        def connected(self, link):
            self.link = link
            self.say(frames.Challenge(version, min_version, kit.CLUSTER, "", kit.incarnation(0xBAD), b"n"))

    listener = await sockets.Sockets().listen("127.0.0.1", 0, Other)
    with pytest.raises(errors.WrongVersion):
        await one.ask(network.Address(kit.incarnation(0xBAD), "127.0.0.1", listener.port))
    await listener.close()


async def test_a_newer_version_that_still_speaks_ours_is_let_in(nodes):
    two = await nodes.start()
    stranger = await kit.dial(two, greet=False)
    hello = kit.handshake.Dialling(kit.handshake.Identity(kit.CLUSTER, "", kit.incarnation(5)), two.address, kit.SECRET).heard(
        stranger.got[0]
    )[1]
    raw = kit.packed([[2, 99, frames.VERSION, *(getattr(hello, name) for name in hello.__struct_fields__[2:]), "new field"]])
    stranger.link.send(raw)
    await until(lambda: len(stranger.got) > 1)
    assert isinstance(stranger.got[1], frames.Welcome)


async def test_another_node_at_the_address_is_recognised(nodes):
    one, two = await nodes.start(), await nodes.start(Service(echo=echo))
    where = network.Address(kit.incarnation(77), two.address.host, two.address.port)
    with pytest.raises(errors.WrongNode):
        await one.ask(where)
    assert await one.ask(two) == b"\x80"


async def test_a_node_that_dials_itself_is_refused(nodes):
    two = await nodes.start(number=9)
    stranger = await kit.dial(two, greet=False)
    me = kit.handshake.Identity(kit.CLUSTER, "", two.incarnation)
    stranger.say(kit.handshake.Dialling(me, two.address, kit.SECRET).heard(stranger.got[0])[1])
    await until(lambda: stranger.why)
    assert answered(stranger)[0].code == "wrong_node"


async def test_what_is_not_exposed_cannot_be_called(nodes):
    one, two = await nodes.start(), await nodes.start(Service(echo=echo))
    for label, method, error in [
        ("echo", "nothing", errors.UnknownMethod),
        ("echo", "__init__", errors.UnknownMethod),
        ("echo", "\ud800", errors.TooLarge),
        ("nobody", "echo", errors.UnknownName),
    ]:
        with pytest.raises(error) as caught:
            await one.ask(two, method, label=label)
        assert caught.value.data["ran"] == "no"
    with pytest.raises(errors.UnknownName):
        await one.ask(two, incarnation=kit.incarnation(99))
    assert await one.ask(two) == b"\x80"
    assert len(one.peers.connections()) == 1


async def test_arguments_and_results_over_the_limit(nodes):
    async def big(call, args):
        return bytes(2000)

    one = await nodes.start(message_bytes=10_000)
    two = await nodes.start(Service(echo=echo, big=big), message_bytes=1000)
    with pytest.raises(errors.TooLarge) as caught:
        await one.ask(two, args=bytes(10_001))
    assert caught.value.data == {"limit": 10_000, "ran": "no"}
    with pytest.raises(errors.TooLarge) as caught:
        await one.ask(two, args=bytes(1001))
    assert caught.value.data == {"limit": 1000, "ran": "no"}
    with pytest.raises(errors.InvalidResult) as returned:
        await one.ask(two, "big")
    assert returned.value.data == {"limit": 1000, "ran": "yes"}
    assert await one.ask(two, args=bytes(1000)) == bytes(1000)


async def test_a_request_or_result_over_what_a_message_may_hold(nodes):
    async def big(call, args):
        return bytes(network.MAX_MESSAGE)

    much = 2 * network.MAX_MESSAGE
    one, two = await nodes.start(message_bytes=much), await nodes.start(Service(echo=echo, big=big), message_bytes=much)
    with pytest.raises(errors.TooLarge):
        await one.ask(two, args=bytes(network.MAX_MESSAGE))
    asked = await asyncio.gather(*(one.ask(two, "big") for _ in range(3)), one.ask(two), return_exceptions=True)
    assert [type(each) for each in asked] == [errors.InvalidResult] * 3 + [bytes]
    assert asked[0].data["ran"] == "yes"


async def test_results_that_are_none(nodes):
    async def nothing(call, args):
        return None

    async def number(call, args):
        return 5

    one, two = await nodes.start(), await nodes.start(Service(echo=echo, nothing=nothing, number=number))
    for method in ("nothing", "number"):
        with pytest.raises(errors.InvalidResult):
            await one.ask(two, method)
    assert await one.ask(two) == b"\x80"


async def test_errors_arrive_as_they_were_raised(nodes):
    class Refused(errors.ServiceError):
        code = "card_refused"
        retryable = True

    async def known(call, args):
        raise errors.NotFound("no such card", card=5)

    async def own(call, args):
        error = Refused("no money \ud800", ran="yes")
        error.data |= {"message": "tricky", "self": 1}
        raise error

    async def odd(call, args):
        raise Refused("odd", what={1, object()})

    async def bug(call, args):
        return 1 / 0

    one, two = await nodes.start(), await nodes.start(Service(known=known, own=own, odd=odd, bug=bug))
    with pytest.raises(errors.NotFound, match="no such card") as caught:
        await one.ask(two, "known")
    assert caught.value.data == {"card": 5, "ran": "yes"}
    for asks in (one, two):
        with pytest.raises(errors.ServiceError) as raised:
            await asks.ask(two, "own")
        assert (raised.value.code, raised.value.retryable, raised.value.message) == ("card_refused", True, "no money ?")
    with pytest.raises(errors.ServiceError, match="odd") as raised:
        await one.ask(two, "odd")
    assert (raised.value.code, raised.value.data) == ("card_refused", {"ran": "yes"})
    with pytest.raises(errors.ServiceError, match="ZeroDivisionError: division by zero") as raised:
        await one.ask(two, "bug")
    assert raised.value.code == "service_failed"
    with pytest.raises(errors.ServiceError, match="ZeroDivisionError"):
        await two.ask(two, "bug")


async def test_an_answer_after_the_deadline_is_counted_and_harms_nothing(nodes):
    kept = []

    def script(stranger, came):
        for request in stranger.greet(came):
            kept.append(request)
            if request.method == "quick":
                stranger.say(frames.Reply(request.id, b"\x01"))
        if any(isinstance(frame, frames.Cancel) for frame in came):
            stranger.say(frames.Reply(kept[-1].id, b"late"))

    one = await nodes.start()
    address = await nodes.stranger(script)
    await one.ask(address, "quick")
    with pytest.raises(errors.DeadlineExceeded):
        await one.ask(address, timeout=0.02)
    await until(lambda: one.peers.connections()[0]["late_answers"] == 1)
    assert await one.ask(address, "quick") == b"\x01"
    assert one.peers.connections()[0]["double_answers"] == 0


async def test_whoever_answers_twice_is_found_out(nodes):
    def script(stranger, came):
        for request in stranger.greet(came):
            reply = frames.Reply(request.id, b"\x01")
            if request.method == "at once":
                stranger.say(reply, reply)
            else:
                stranger.say(reply)
                stranger.say(reply)

    one = await nodes.start()
    address = await nodes.stranger(script)
    with pytest.raises(errors.AnsweredTwice):
        await one.ask(address, "at once")
    told = []
    await asyncio.wait([asyncio.ensure_future(one.ask(address, "later", again=lambda: told.append(1)))])
    await until(lambda: told)
    assert one.peers.connections()[0]["double_answers"] == 2


async def test_what_was_answered_twice_is_forgotten_without_a_word(nodes):
    def script(stranger, came):
        for request in stranger.greet(came):
            reply = frames.Reply(request.id, b"\x01")
            stranger.say(reply)
            stranger.say(reply)

    one, told, troubles = await nodes.start(), [], []
    address = await nodes.stranger(script)
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: troubles.append(context))
    for timeout in (1.0, 1.1):
        await asyncio.gather(one.ask(address, again=lambda: told.append(1), timeout=timeout), return_exceptions=True)
    asked = next(iter(one.peers._all)).asking
    await until(lambda: len(told) == 2)
    await until(lambda: not asked._watched.at)
    assert not troubles and not asked._again


async def test_second_answers_are_looked_out_for_in_bounded_memory(nodes, monkeypatch):
    monkeypatch.setattr(asking, "WATCHED_KEPT", 10)
    one, two = await nodes.start(), await nodes.start(Service(echo=echo))
    for _ in range(30):
        await one.ask(two, again=lambda: None)
    asked = next(iter(one.peers._all)).asking
    assert len(asked._again) == len(asked._watched.at) == 10


async def test_nothing_that_follows_a_refusal_in_its_message_is_run(nodes):
    ran = []

    async def run(call, args):
        ran.append(call.method)
        return args

    node = await nodes.start(Service(echo=run))
    stranger = await kit.dial(node)
    request = frames.Request(1, "echo", "main", "echo", 0, 5_000_000, b"\x80")
    stranger.say(frames.Refused("wire_refused", "no more"), request)
    await until(lambda: stranger.why)
    await asyncio.sleep(0)
    assert ran == []


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\xc1",
        b"GET / HTTP/1.1\r\n\r\n",
        kit.packed([]) + b"x",
        kit.packed([[5, "id"]]),
        kit.packed({"a": 1}),
        kit.packed([[99, 1]]),
        kit.packed([[6, 12345, b"never asked"]]),
        kit.packed([[5, 1, "echo", "main", "echo", 0, 10**6, b""]] * 2),
        kit.packed([[2, 1, 1, "test", "", "x", b"", b""]]),
    ],
)
async def test_nonsense_ends_that_connection_and_no_other(nodes, said):
    two = await nodes.start(Service(echo=echo))
    one = await nodes.start()
    await one.ask(two)
    stranger = await kit.dial(two)
    with structlog.testing.capture_logs() as logged:
        stranger.link.send(said)
        await until(lambda: stranger.why)
    assert any(isinstance(frame, frames.Refused) and frame.code == "malformed_frame" for frame in stranger.got)
    assert [line["code"] for line in logged if line["log_level"] == "warning"] == ["malformed_frame"]
    assert await one.ask(two) == b"\x80"


@pytest.mark.parametrize("said", [b"", b"\xc1", bytes(9000), kit.packed([[5, 1, "echo", "main", "echo", 0, 10**6, b""]])])
async def test_nonsense_instead_of_a_greeting(nodes, said):
    two = await nodes.start(Service(echo=echo))
    stranger = await kit.dial(two, greet=False)
    stranger.link.send(said)
    await until(lambda: stranger.why)
    assert [frame.code for frame in answered(stranger)] == ["malformed_frame"]


async def test_a_callee_that_talks_nonsense(nodes):
    def script(stranger, came):
        if stranger.greet(came):
            stranger.link.send(b"\xc1")

    one = await nodes.start()
    with pytest.raises(errors.ConnectionLost):
        await one.ask(await nodes.stranger(script))


async def test_a_message_over_the_limit_of_the_network(nodes):
    two = await nodes.start(Service(echo=echo))
    strangers = [await kit.dial(two, number=number) for number in (21, 22, 23)]
    with structlog.testing.capture_logs() as logged:
        for stranger in strangers:
            stranger.link.send(bytes(network.MAX_MESSAGE + 1))
            await until(lambda stranger=stranger: stranger.why)
    assert [line["code"] for line in logged if line["log_level"] == "warning"] == ["malformed_frame"]
    assert await (await nodes.start()).ask(two) == b"\x80"


async def test_raw_bytes_on_the_port(nodes):
    two = await nodes.start(Service(echo=echo))
    for said in (b"\0" * 100, b"GET / HTTP/1.1\r\n\r\n", b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n"):
        reader, writer = await asyncio.open_connection(*two.peers.listening)
        writer.write(said)
        writer.write_eof()
        async with asyncio.timeout(5):
            await reader.read()
        writer.close()
    assert await (await nodes.start()).ask(two) == b"\x80"


async def test_silent_strangers_are_bounded_and_sent_away(nodes):
    two = await nodes.start(Service(echo=echo), strangers=3, keepalive_seconds=0.02, silent_seconds=0.3)
    strangers = [await kit.dial(two, greet=False) for _ in range(3)]
    more = kit.Stranger()
    await sockets.Sockets().dial(two.address, more)
    await until(lambda: more.why)
    await until(lambda: all(stranger.why for stranger in strangers))
    assert await (await nodes.start()).ask(two) == b"\x80"


async def test_refusals_are_logged_seldom(nodes):
    two = await nodes.start()
    with structlog.testing.capture_logs() as logged:
        for _ in range(20):
            stranger = await kit.dial(two, greet=False)
            stranger.link.send(b"\xc1")
            await until(lambda stranger=stranger: stranger.why)
    assert len([line for line in logged if line["log_level"] == "warning"]) == 1


async def test_too_many_requests_in_flight(nodes):
    hanging = Hanging()
    one, two = await nodes.start(in_flight=3), await nodes.start(Service(hang=hanging, echo=echo), in_flight=3)
    asked = [asyncio.ensure_future(one.ask(two, "hang")) for _ in range(3)]
    await until(lambda: hanging.begun == 3)
    with pytest.raises(errors.Overloaded) as caught:
        await one.ask(two)
    assert caught.value.data["ran"] == "no"
    asked.pop().cancel()
    await until(lambda: two.peers.connections()[0]["serving"] == 2)
    assert await one.ask(two) == b"\x80"
    for each in asked:
        each.cancel()
    await asyncio.wait(asked)


async def test_a_callee_bounds_what_one_node_may_have_under_way(nodes):
    hanging = Hanging()
    two = await nodes.start(Service(hang=hanging), in_flight=3)
    stranger = await kit.dial(two)
    stranger.say(*(frames.Request(id, "echo", "main", "hang", 0, 10**7, b"") for id in range(1, 6)))
    await until(lambda: len(answered(stranger)) == 2)
    assert {frame.code for frame in answered(stranger)} == {"overloaded"} and hanging.begun == 3


async def test_a_request_without_time_left_is_not_begun(nodes):
    hanging = Hanging()
    two = await nodes.start(Service(hang=hanging))
    stranger = await kit.dial(two)
    stranger.say(frames.Request(1, "echo", "main", "hang", 0, 0, b""), frames.Request(2, "echo", "main", "hang", 0, -5, b""))
    await until(lambda: len(answered(stranger)) == 2)
    assert {frame.code for frame in answered(stranger)} == {"deadline_exceeded"} and not hanging.begun
    with pytest.raises(errors.DeadlineExceeded):
        await (await nodes.start()).ask(two, "hang", timeout=0)
