"""One request to many: an outcome for each, whatever happens to some of them."""

import asyncio

import pytest

from callboard import errors
from callboard.kit import ring
from callboard.rpc import broadcast, frames, network
from tests.unit.rpc import nodes as kit
from tests.unit.rpc.nodes import Hanging, Service, echo


def recipient(node, label="echo"):
    address = node if isinstance(node, network.Address) else node.address
    return broadcast.Recipient(f"{label}/{address.incarnation}", address, label)


async def gather(asker, recipients, method="echo", **how):
    how = {"timeout": 5.0, **how}
    outcomes = await broadcast.gather(asker.peers, recipients, method, b"\x80", **how)
    assert [outcome.member for outcome in outcomes] == [each.member for each in recipients]
    return outcomes


def statuses(outcomes):
    return [outcome.status for outcome in outcomes]


async def test_every_recipient_has_an_outcome_of_its_own(nodes):
    async def fail(call, args):
        raise errors.ServiceError("no")

    def twice(stranger, came):
        for request in stranger.greet(came):
            stranger.say(frames.Reply(request.id, b""), frames.Reply(request.id, b""))

    one = await nodes.start(Service(echo=echo))
    two = await nodes.start(Service(echo=fail))
    three = await nodes.start(Service(echo=Hanging()))
    four = await nodes.start(Service("other"))
    stopped = await nodes.start()
    dead = stopped.address
    await stopped.peers.stop()
    refusing = await nodes.start(Service(echo=echo), secret=b"another")
    bad = await nodes.stranger(twice)
    everyone = [recipient(each) for each in (one, two, three, four, dead, refusing, bad)]
    outcomes = await gather(one, everyone, timeout=2.0)
    assert statuses(outcomes) == ["ok", "error", "timeout", "error", "unreachable", "unreachable", "error"]
    assert outcomes[0].result == b"\x80"
    assert [outcome.code for outcome in outcomes] == [
        "",
        "service_failed",
        "deadline_exceeded",
        "unknown_name",
        "unreachable",
        "wrong_secret",
        "answered_twice",
    ]


async def test_one_that_answers_again_while_others_are_waited_for_is_not_trusted(nodes):
    said = asyncio.Event()

    def twice(stranger, came):
        for request in stranger.greet(came):
            stranger.say(frames.Reply(request.id, b"1"))
            asyncio.get_running_loop().call_later(0.02, again, stranger, request.id)

    def again(stranger, id):
        stranger.say(frames.Reply(id, b"2"))
        said.set()

    async def slow(call, args):
        await said.wait()
        return args

    one, two = await nodes.start(), await nodes.start(Service(echo=slow))
    outcomes = await gather(one, [recipient(await nodes.stranger(twice)), recipient(two)])
    assert statuses(outcomes) == ["error", "ok"] and outcomes[0].code == "answered_twice"


async def test_the_first_answer_wins_and_the_others_are_cancelled(nodes):
    hanging = [Hanging() for _ in range(3)]

    async def fail(call, args):
        raise errors.ServiceError("no")

    one = await nodes.start()
    slow = [recipient(await nodes.start(Service(echo=each))) for each in hanging]
    failing, quick = recipient(await nodes.start(Service(echo=fail))), recipient(await nodes.start(Service(echo=echo)))
    await gather(one, [failing, quick])
    outcomes = await gather(one, [*slow, failing, quick], mode="first")
    assert statuses(outcomes)[:3] == ["cancelled"] * 3 and statuses(outcomes)[4] == "ok"
    await kit.until(lambda: [each.cancelled for each in hanging] == [each.begun for each in hanging])


async def test_without_any_answer_the_first_waits_for_all(nodes):
    async def fail(call, args):
        raise errors.ServiceError("no")

    one, two = await nodes.start(), await nodes.start(Service(echo=fail, hang=Hanging()))
    assert statuses(await gather(one, [recipient(two)], mode="first")) == ["error"]
    assert statuses(await gather(one, [recipient(two)], "hang", mode="first", timeout=0.03)) == ["timeout"]


async def test_exactly_one_is_elected_and_the_others_name_it(nodes):
    acted = []

    def acting(number):
        async def act(call, args):
            acted.append(number)
            return args

        return Service(echo=act)

    one = await nodes.start()
    several = [recipient(await nodes.start(acting(number))) for number in range(5)]
    for key in ("a", "b", "c", "d"):
        acted.clear()
        outcomes = await gather(one, several, mode="elect", key=key)
        chosen = ring.pick(key, [each.member for each in several])
        assert [outcome.member for outcome in outcomes if outcome.status == "ok"] == [chosen]
        assert {outcome.message for outcome in outcomes if outcome.status == "elsewhere"} == {chosen}
        assert len(acted) == 1


async def test_nobody_to_ask(nodes):
    assert await gather(await nodes.start(), []) == []


async def test_a_cancelled_broadcast_cancels_all_of_it(nodes):
    hanging = Hanging()
    one, two = await nodes.start(), await nodes.start(Service(echo=hanging))
    for mode in ("all", "first"):
        hanging.begun = hanging.cancelled = 0
        task = asyncio.ensure_future(gather(one, [recipient(two)], mode=mode))
        await kit.until(lambda: hanging.begun)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await kit.until(lambda: hanging.cancelled)
    assert one.peers.connections()[0]["in_flight"] == 0


async def test_hundreds_of_recipients_in_a_few_nodes(nodes):
    one = await nodes.start()
    homes = [await nodes.start(*(Service(f"s{number}", echo=echo) for number in range(64))) for _ in range(4)]
    everyone = [recipient(home, f"s{number}") for home in homes for number in range(64)]
    assert statuses(await gather(one, everyone)) == ["ok"] * 256
    assert sorted(statuses(await gather(one, everyone, mode="elect", key="k"))) == ["elsewhere"] * 255 + ["ok"]


@pytest.mark.parametrize("raised", [errors.DeadlineExceeded, errors.Unreachable, errors.ConnectionLost])
async def test_what_a_method_itself_met_elsewhere_is_its_error(nodes, raised):
    async def fail(call, args):
        raise raised("of somebody else", ran="yes")

    one, two = await nodes.start(), await nodes.start(Service(echo=fail))
    (outcome,) = await gather(one, [recipient(two)])
    assert (outcome.status, outcome.code) == ("error", raised.code)
