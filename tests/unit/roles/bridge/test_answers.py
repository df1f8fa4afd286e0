"""How words about ended jobs go out, and what becomes of them while they cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec
import pytest

from callboard import errors
from callboard.brokers import address
from callboard.jobs import model, replies
from callboard.kit import codec
from callboard.roles import bridge
from callboard.roles.bridge import answers

BROKER = "127.0.0.1:61613"
TO = {replies.TO: "/queue/shop", replies.BROKER: BROKER, replies.CORRELATION: "c-1"}


class Links:
    """Links to a broker that does as it is told."""

    def __init__(self) -> None:
        self.opens = 0
        self.sends = 0
        self.sent: list[tuple[str, object, Mapping[str, str]]] = []
        self.unopened: Exception | None = None
        self.unsent: Exception | None = None
        self.moment = asyncio.Event()
        """Whatever is tried waits for this."""
        self.moment.set()

    def make(self, address: object, told: object) -> Links:
        return self

    @property
    def alive(self) -> bool:
        return self.unopened is None and self.opens > 0

    async def open(self) -> None:
        self.opens += 1
        await self.moment.wait()
        if self.unopened is not None:
            raise self.unopened

    async def send(self, destination: str, body: bytes, headers: Mapping[str, str]) -> None:
        self.sends += 1
        await self.moment.wait()
        if self.unsent is not None:
            raise self.unsent
        self.sent.append((destination, msgspec.json.decode(body), headers))

    async def close(self) -> None:
        pass


@pytest.fixture
def links() -> Links:
    return Links()


@pytest.fixture
def made(links: Links) -> bridge.Answers:
    return bridge.Answers([address.parsed(f"activemq://{BROKER}")], None, links.make)  # type: ignore[arg-type]


@pytest.fixture
def job() -> model.Job:
    return model.Job(id=bytes(15) + b"\1", kind="shop.pack", state=model.State.COMPLETED, result=codec.pack_trusted(7))


async def test_a_word_goes_where_it_was_asked_for(made: bridge.Answers, links: Links, job: model.Job) -> None:
    await made.say(job, TO)
    ((destination, word, headers),) = links.sent
    assert (destination, headers["correlation-id"], headers["content-type"]) == ("/queue/shop", "c-1", "application/json")
    assert isinstance(word, dict) and (word["state"], word["result"]) == ("completed", 7)
    assert made.sent == 1


async def test_while_no_word_gets_out_one_at_a_time_tries(
    made: bridge.Answers, links: Links, job: model.Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    links.unopened = errors.BrokerUnavailable("out of reach")
    links.moment.clear()
    waiting = [asyncio.create_task(made.say(job, TO)) for _ in range(5)]
    await asyncio.sleep(0)
    links.moment.set()
    assert {type(each) for each in await asyncio.gather(*waiting, return_exceptions=True)} == {errors.BrokerUnavailable}
    assert links.opens == 1
    with pytest.raises(errors.BrokerUnavailable, match="out of reach") as told:
        await made.say(job, TO)
    assert links.opens == 1 and answers.AWAY_SECONDS / 2 <= told.value.data["pause"] <= answers.AWAY_SECONDS
    monkeypatch.setattr(answers, "AWAY_SECONDS", 0.0)
    loop = asyncio.get_running_loop()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now + 20)
    links.moment.clear()
    tries = asyncio.create_task(made.say(job, TO))
    await asyncio.sleep(0)
    with pytest.raises(errors.BrokerUnavailable):
        await made.say(job, TO)
    links.unopened = None
    links.moment.set()
    await tries
    await made.say(job, TO)
    assert links.opens == 2 and made.sent == 2
    said = [line for line in capsys.readouterr().out.splitlines() if "replies" in line]
    assert len(said) == 2 and "out of reach" in said[0]


async def test_the_longer_it_lasts_the_longer_words_wait(
    made: bridge.Answers, links: Links, job: model.Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    links.unsent = errors.BrokerUnavailable("full", unknown=True)
    loop = asyncio.get_running_loop()
    began = loop.time()
    for after, pause in ((0, 5), (30, 30), (3600, 60)):
        monkeypatch.setattr(loop, "time", lambda after=after: began + after)
        with pytest.raises(errors.BrokerUnavailable, match="full") as told:
            await made.say(job, TO)
        assert told.value.data["pause"] == pytest.approx(pause, abs=0.5)


async def test_a_login_that_is_refused_is_no_word_s_fault_and_a_destination_that_is_refused_is(
    made: bridge.Answers, links: Links, job: model.Job
) -> None:
    links.unsent = errors.BrokerRefused("no right to write there")
    for _ in range(2):
        with pytest.raises(errors.BrokerRefused):
            await made.say(job, TO)
    assert links.sends == 2
    links.unopened = errors.BrokerRefused("check user and password")
    with pytest.raises(errors.BrokerUnavailable, match="check user and password"):
        await made.say(job, TO)


async def test_a_destination_that_is_refused_shows_that_words_go_out_again(
    made: bridge.Answers, links: Links, job: model.Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    links.unsent = errors.BrokerUnavailable("full")
    with pytest.raises(errors.BrokerUnavailable):
        await made.say(job, TO)
    loop = asyncio.get_running_loop()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now + 20)
    links.unsent = errors.BrokerRefused("no right to write there")
    with pytest.raises(errors.BrokerRefused):
        await made.say(job, TO)
    links.unsent = None
    links.moment.clear()
    both = asyncio.gather(made.say(job, TO), made.say(job, TO))
    await asyncio.sleep(0)
    links.moment.set()
    await both
    assert made.sent == 2


async def test_certificates_that_cannot_be_read_are_waited_for(made: bridge.Answers, links: Links, job: model.Job) -> None:
    links.unopened = errors.InvalidSetting("certificates cannot be read from ca.pem")
    with pytest.raises(errors.BrokerUnavailable, match="cannot be read"):
        await made.out(BROKER).link()
    with pytest.raises(errors.BrokerUnavailable, match="cannot be read") as told:
        await made.say(job, TO)
    assert told.value.data["pause"]


def test_a_broker_is_named_once(links: Links) -> None:
    named = [address.parsed(f"activemq://{hosts}") for hosts in ("a:1,b:2", "b:2,a:1")]
    with pytest.raises(errors.InvalidSetting, match="a:1,b:2 twice"):
        bridge.Answers(named, None, links.make)  # type: ignore[arg-type]
