"""Links to a real ActiveMQ: what is delivered, acknowledged, refused, put aside; and what breaks on the way."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterable

import msgspec
import pytest

from callboard import brokers, errors
from callboard.brokers import address, link
from callboard.cli import program
from callboard.kit import ports
from callboard.rpc import certs
from callboard.testing.engines import activemq as activemqs

pytestmark = pytest.mark.xdist_group("activemq")


class Told:
    """Remembers what a link told."""

    def __init__(self):
        self.messages = []
        self.refusals = []
        self.losses = []

    @property
    def bodies(self):
        return [message.body.decode() for message in self.messages]

    def received(self, messages):
        self.messages += messages

    def refused(self, subscription, error):
        self.refusals.append((subscription, error))

    def lost(self, why):
        self.losses.append(why)


@contextlib.asynccontextmanager
async def linked(url, **more):
    told = Told()
    made = link.Link(address.parsed(url), told, **more)
    await made.open()
    try:
        yield made, told
    finally:
        await made.close()


@pytest.fixture(scope="module")
def guarded():
    """A broker with TLS, users, rights, and a store of few megabytes."""
    if reason := activemqs.installed():
        pytest.skip(f"needs ActiveMQ ({reason}): make engines")
    users = {"shop": "p:/@ä w", "other": "secret"}
    rights = {"shop.>": ("shop",), "DLQ.shop.open": ("shop",)}
    with activemqs.Broker(users=users, rights=rights, tls=True, store_megabytes=4) as broker:
        yield broker


async def test_what_is_sent_arrives_in_batches_and_is_gone_once_acknowledged(activemq, eventually):
    async with linked(activemq.url()) as (made, told):
        texts = [f"message {number}" for number in range(300)]
        await asyncio.gather(*(made.send("shop", text.encode(), {"callboard-id": text, "odd": "a:b\\c\nd"}) for text in texts))
        made.subscribe("shop", 50)
        await eventually(lambda: len(told.messages) == 50)
        await eventually(lambda: activemq.queue("shop").in_flight == 50)  # It counts what it has sent a moment later.
        assert len(told.messages) == 50
        done = 0
        while done < len(texts):
            await eventually(lambda: len(told.messages) > done)  # noqa: B023
            made.ack(told.messages[done:])
            done = len(told.messages)
        assert told.bodies == texts
        assert all(m.headers["callboard-id"] == text for m, text in zip(told.messages, texts, strict=True))
        assert {m.headers["odd"] for m in told.messages} == {"a:b\\c\nd"} and {m.destination for m in told.messages} == {"shop"}
    gone = activemqs.Queue(size=0, in_flight=0, consumers=0, enqueued=300, dequeued=300)
    await eventually(lambda: activemq.queue("shop") == gone)


async def test_messages_come_from_other_clients_of_the_broker(activemq, eventually):
    id = activemq.send_text("shop", "by HTTP ä", {"callboard-id": "x", "JMSReplyTo": "answers", "JMSCorrelationID": "c"})
    async with linked(activemq.url()) as (made, told):
        made.subscribe("shop", 1)
        await eventually(lambda: told.messages)
        (message,) = told.messages
        assert (message.id, message.body.decode(), message.redelivered) == (id, "by HTTP ä", False)
        assert message.headers["callboard-id"] == "x" and int(message.headers["timestamp"]) > 1_700_000_000_000
        made.ack(told.messages)
    assert activemq.queue("shop").size == 0


async def test_what_is_sent_is_a_text_or_bytes_for_those_who_read_by_jms(activemq):
    async with linked(activemq.url()) as (made, _):
        await made.send("shop", b'{"a": 1}', {"correlation-id": "7"})
        await made.send("shop", b"\0\xff")
    text, other = activemq.browse("shop")
    assert (text["Text"], text["JMSCorrelationID"], text["JMSDeliveryMode"]) == ('{"a": 1}', "7", "PERSISTENT")
    assert other["BodyPreview"] == [0, -1]


async def test_a_dead_consumers_messages_go_to_the_next_one_marked(activemq, eventually):
    async with linked(activemq.url()) as (made, told):
        await made.send("shop", b"x")
        made.subscribe("shop", 1)
        await eventually(lambda: told.messages)
        async with linked(activemq.url()) as (second, heard):
            second.subscribe("shop", 1)
            made._wire.end("cut")
            await eventually(lambda: heard.messages)
            assert heard.messages[0].id == told.messages[0].id and heard.messages[0].redelivered


async def test_what_was_acknowledged_before_the_end_of_a_subscription_counts(activemq, eventually):
    async with linked(activemq.url()) as (made, told):
        for number in range(4):
            await made.send("shop", b"%d" % number)
        id = made.subscribe("shop", 4)
        await eventually(lambda: len(told.messages) == 4)
        made.ack(told.messages[:2])
        made.unsubscribe(id)
        made.unsubscribe(id)
        made.ack(told.messages[2:])  # Too late: neither heeded nor held against us.
        await eventually(lambda: activemq.queue("shop").consumers == 0)
        await made.send("shop", b"4")
        assert made.alive and not told.losses
    assert [each["Text"] for each in activemq.browse("shop")] == ["2", "3", "4"]


async def test_a_dead_letter_keeps_what_it_was_and_says_why(activemq, eventually):
    async with linked(activemq.url()) as (made, told):
        await made.send("shop", b"\xc0\x80 no json", {"callboard-id": "x", "correlation-id": "c", "expires": "99999999999999"})
        made.subscribe("shop", 5)
        await eventually(lambda: told.messages)
        await made.dead_letter(told.messages[0], "not JSON:\nwrite it anew", made)
    assert activemq.queue("shop").size == 0
    (letter,) = activemq.browse("DLQ.shop")
    assert letter["StringProperties"]["callboard-reason"] == "not JSON: write it anew"
    assert letter["StringProperties"]["callboard-destination"] == "shop"
    assert (letter["StringProperties"]["callboard-id"], letter["JMSCorrelationID"], letter["JMSExpiration"]) == ("x", "c", 0)
    assert bytes(each % 256 for each in letter["BodyPreview"]) == b"\xc0\x80 no json"


async def test_a_message_over_the_limit_becomes_the_brokers_own_dead_letter(activemq, eventually):
    async with linked(activemq.url(), most_bytes=1_000) as (made, told):
        await made.send("shop", b"x" * 100_000)
        await made.send("shop", b"short")
        made.subscribe("shop", 5)
        await eventually(lambda: len(told.messages) == 2)
        assert told.messages[0].dropped >= 1_000 and told.messages[1].body == b"short"
        await made.dead_letter(told.messages[0], "too long", made)
        made.ack(told.messages[1:])
    assert activemq.queue("shop").size == 0 and len(activemq.browse("DLQ.shop")[0]["Text"]) == 100_000


async def test_a_killed_broker_is_noticed_at_once_and_has_all_it_confirmed(activemq, eventually, record_property):
    async with linked(activemq.url()) as (made, told):
        sent = asyncio.gather(*(made.send("shop", b"x") for _ in range(500)))
        await sent
        since = time.monotonic()
        await asyncio.to_thread(activemq.kill)
        await eventually(lambda: told.losses)
        record_property("figure", f"a killed broker is noticed after {(time.monotonic() - since) * 1000:.0f} ms")
        assert "closed the connection" in told.losses[0]
    with pytest.raises(errors.BrokerUnavailable, match="out of reach"):
        await link.Link(address.parsed(activemq.url()), Told()).open(2)
    await asyncio.to_thread(activemq.start)
    assert activemq.queue("shop").size == 500
    async with linked(activemq.url()) as (made, told):
        made.subscribe("shop", 1)
        await eventually(lambda: told.messages)


async def test_a_frozen_broker_is_noticed_within_seconds(activemq, eventually, record_property):
    async with linked(activemq.url()) as (made, told):
        since = time.monotonic()
        await asyncio.to_thread(activemq.freeze)
        await eventually(lambda: told.losses, 15)
        record_property("figure", f"a frozen broker is noticed after {time.monotonic() - since:.1f} s")
        assert "has said nothing" in told.losses[0] and not made.alive
        with pytest.raises(errors.BrokerUnavailable, match=r"says nothing|does not answer"):
            await link.Link(address.parsed(activemq.url()), Told()).open(0.3)


async def test_the_second_host_takes_over(activemq, eventually):
    (nobody,) = ports.free()
    given = address.parsed(activemq.url().replace("@", f"@127.0.0.1:{nobody},"))
    made = link.Link(given, told := Told())
    await made.open()
    assert made.host == ("127.0.0.1", activemq.stomp)
    await made.send("shop", b"x")
    made.subscribe("shop", 1)
    await eventually(lambda: told.messages)
    await made.close()


@pytest.mark.parametrize("change", ["login", "password"])
async def test_a_wrong_login_is_one_line(activemq, change):
    given = address.parsed(activemq.url())
    wrong = {"user": "", "password": ""} if change == "login" else {"password": "wrong-pass"}
    with pytest.raises(errors.BrokerRefused) as raised:
        await link.Link(msgspec.structs.replace(given, **wrong), Told()).open()
    assert "check user and password in its URL" in raised.value.message
    assert "wrong-pass" not in raised.value.message and "\n" not in raised.value.message


async def test_without_a_right_only_that_subscription_or_message_is_refused(guarded, eventually):
    async with linked(guarded.url("shop")) as (made, told):
        refused = made.subscribe("forbidden", 1)
        made.subscribe("shop.open", 1)
        await eventually(lambda: told.refusals)
        ((id, error),) = told.refusals
        assert id == refused and error.data == {"destination": "forbidden"} and "forbidden" in error.message
        with pytest.raises(errors.BrokerRefused, match=r"forbidden.*: give its user the right to write") as raised:
            await made.send("forbidden", b"x")
        assert raised.value.data == {"destination": "forbidden"}
        await made.send("shop.open", b"x")
        await eventually(lambda: told.messages)
        made.ack(told.messages)
        assert made.alive and not told.losses


async def test_a_dead_letter_that_is_refused_leaves_the_message_with_the_broker(guarded, eventually):
    async with linked(guarded.url("shop")) as (made, told):
        await made.send("shop.closed", b"x")
        made.subscribe("shop.closed", 1)
        await eventually(lambda: told.messages)
        with pytest.raises(errors.BrokerRefused, match=r"DLQ\.shop\.closed"):
            await made.dead_letter(told.messages[0], "bad", made)
        assert guarded.queue("shop.closed").size == 1 and made.alive
        made.ack(told.messages)
    assert guarded.queue("shop.closed").size == 0


async def test_tls_must_be_asked_for_where_it_is_and_only_there(guarded, activemq):
    plain = address.parsed(guarded.url("shop").partition("?")[0])
    with pytest.raises(errors.BrokerError, match=r"\?tls=true"):
        await link.Link(plain, Told()).open(3)
    encrypted = address.parsed(f"{activemq.url()}?tls=true&ca={guarded.ca}")
    with pytest.raises(errors.BrokerError, match="TLS"):
        await link.Link(encrypted, Told()).open(1)
    untrusted = address.parsed(guarded.url("shop").partition("&ca=")[0])
    with pytest.raises(errors.BrokerRefused, match="certificate that is not trusted"):
        await link.Link(untrusted, Told()).open()
    named = msgspec.structs.replace(untrusted, ca="/no/such/file")
    with pytest.raises(errors.InvalidSetting, match="/no/such/file"):
        await link.Link(named, Told()).open()


async def test_a_certificate_is_shown_to_a_broker_that_asks_for_one(guarded, eventually, tmp_path):
    url = guarded.mutual_url("shop")
    async with linked(url) as (made, told):
        await made.send("shop.open", b"x")
        made.subscribe("shop.open", 1)
        await eventually(lambda: told.messages)
        made.ack(told.messages)
    assert [level for level, _, _ in await brokers.check(url)] == ["fit", "fit", "fit"]
    none, _, ours = url.partition("&cert=")
    with pytest.raises(errors.BrokerError, match="add &cert=FILE&key=FILE"):
        await link.Link(address.parsed(none), Told()).open(3)
    certs.init(tmp_path)
    others = certs.issue(tmp_path, "bridge")
    with pytest.raises(errors.BrokerError, match="it must know who signed ours"):
        await link.Link(address.parsed(f"{none}&cert={others.certificate}&key={others.key}"), Told()).open(3)
    with pytest.raises(errors.InvalidSetting, match="certificates cannot be read"):
        await link.Link(address.parsed(f"{none}&cert={ours.partition('&')[0]}&key={others.key}"), Told()).open(3)


async def test_a_full_store_is_told_by_name_and_nothing_breaks(guarded):
    async with linked(guarded.url("shop")) as (made, told):
        confirmed = 0
        with pytest.raises(errors.BrokerUnavailable, match="StorePercentUsage"):
            for _ in range(20):
                await made.send("shop.full", b"x" * 500_000, seconds=5.0)
                confirmed += 1
        assert confirmed and not told.losses
        assert guarded.queue("shop.full").size == confirmed
        made._wire.end("it would wait for the broker")


async def test_check_says_what_it_found(activemq):
    (nobody,) = ports.free()
    found = await brokers.check(activemq.url())
    assert [level for level, _, _ in found] == ["fit", "fit"] and "ActiveMQ 5" in found[1][1]
    beside = await brokers.check(f"{activemq.url()},127.0.0.1:{nobody}")
    assert _levels(beside) == ["fit", "fit", "warning"] and "stand-in" in beside[2][2]
    alone = await brokers.check(f"activemq://127.0.0.1:{nobody}")
    assert _levels(alone) == ["unfit"] and "out of reach" in alone[0][1]
    refused = await brokers.check(activemq.url().replace(activemqs.PASSWORD, "wrong"))
    assert _levels(refused) == ["unfit"] and "check user and password" in refused[0][2]


def test_a_job_is_submitted_through_the_broker(activemq, capsys, monkeypatch):
    monkeypatch.setenv("CALLBOARD_VIA", activemq.url())
    assert program.run(["submit", "shop.pack", "size=3", "--queue", "slow", "--tag", "a", "--domain", "acme"]) == 0
    id = capsys.readouterr().out.strip()
    (message,) = activemq.browse("callboard.acme.slow")
    assert json.loads(message["Text"]) == {
        "kind": "shop.pack",
        "args": {"size": 3},
        "id": id,
        "domain": "acme",
        "queue": "slow",
        "tags": ["a"],
    }
    assert message["StringProperties"]["callboard-id"] == id and message["JMSDeliveryMode"] == "PERSISTENT"
    assert program.run(["submit", "shop.pack", "--destination", "orders", "--id", id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"id": id, "destination": "orders"}
    assert activemq.queue("orders").size == 1


def test_commands_say_in_a_line_what_is_wrong_with_a_broker(activemq, capsys):
    (nobody,) = ports.free()
    wrong = activemq.url().replace(activemqs.PASSWORD, "wrong-pass")
    for tokens, code, said in (
        (["submit", "a.b", "--via", f"activemq://127.0.0.1:{nobody}"], 5, "out of reach"),
        (["submit", "a.b", "--via", wrong], 4, "check user and password"),
        (["submit", "A B", "--via", activemq.url()], 2, "kind"),
        (["submit", "a.b", "--via", activemq.url(), "--wait"], 2, "--via"),
        (["check", wrong], 6, "check user and password"),
        (["check", activemq.url()], 0, "ActiveMQ 5"),
    ):
        assert program.run(tokens) == code
        printed = capsys.readouterr()
        assert said in printed.out + printed.err and "wrong-pass" not in printed.out + printed.err
    assert activemq.queues() == []


def _levels(found: Iterable[tuple[str, str, str]]) -> list[str]:
    return [level for level, _, _ in found]
