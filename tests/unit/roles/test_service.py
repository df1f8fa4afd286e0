"""A service's instances: when they serve, under which epoch, and how they stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from callboard import Call, Callboard, errors, method
from callboard.coordination.engines import memory
from callboard.kit import clock
from callboard.names import groups
from callboard.roles import service
from callboard.roles.service import instance
from tests.unit import inhouse

FIRST, SECOND = "1" * 32, "2" * 32
log: list[str] = []
begun = asyncio.Event()
"""Set by methods that then wait."""
let_go = asyncio.Event()

app = Callboard("house")


@app.service("ledger", active="one")
class Ledger:
    def __init__(self) -> None:
        self.entries = 0

    async def start(self) -> None:
        log.append("start")

    async def stop(self) -> None:
        log.append("stop")

    @method
    async def enter(self, call: Call) -> list[int]:
        self.entries += 1
        return [self.entries, call.epoch]

    @method
    async def wait(self) -> str:
        begun.set()
        await let_go.wait()
        return "done"

    @method
    async def stubborn(self) -> str:
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await let_go.wait()
        return "anyway"


@app.service("echo", active="all")
class Echo:
    wait = Ledger.wait
    stubborn = Ledger.stubborn

    def start(self) -> None:
        log.append("start")

    @method
    async def say(self, text: str) -> str:
        return text

    @method
    async def twice(self, text: str) -> str:
        return str(await app.call("echo", "say", text=text)) * 2

    @method
    async def wait_inside(self) -> Any:
        return await app.call("echo", "wait")


class Cut:
    """A link to coordination that can be cut."""

    whole = True

    async def trip(self) -> None:
        await asyncio.sleep(0)
        if not self.whole:
            raise errors.CoordinationUnavailable("the link is cut")


@pytest.fixture(autouse=True)
def fresh() -> None:
    global begun, let_go
    log.clear()
    begun, let_go = asyncio.Event(), asyncio.Event()


@pytest.fixture
async def echo() -> AsyncIterator[tuple[inhouse.Inhouse, service.Service]]:
    node = inhouse.Inhouse()
    hosted = service.Service(app.services["echo"], clock=node.clock)
    node.table.add(hosted)
    await hosted.start()
    app.call_through(node)
    yield node, hosted
    app.call_through(None)
    await hosted.stop()


Stand = Callable[..., Awaitable[inhouse.Candidate]]


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    site = memory.Site()
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            incarnation: str = FIRST, order: int = 0, grouping: groups.Groups | None = None, link: Any = None
        ) -> inhouse.Candidate:
            made = inhouse.Candidate(site, incarnation, grouping or groups.Groups(), order)
            if link is not None:
                made.engine = memory.MemoryEngine(site, link=link, session_seconds=1.0)
            await made.start({"ledger": app.services["ledger"]})
            stack.push_async_callback(made.stop)
            return made

        yield start


async def active(candidate: inhouse.Candidate, name: str = "ledger") -> bool:
    try:
        await candidate.node.ask(name, "enter")
    except (errors.NotActive, errors.LeaseUnconfirmed):
        return False
    return True


# Every instance serves


async def test_an_instance_serves_from_its_start(echo):
    node, hosted = echo
    assert (await node.ask("echo", "say", text="a"), await node.ask("echo@acme", "twice", text="a")) == ("a", "aa")
    assert (hosted.label, hosted.active, log) == ("echo", True, ["start"])
    assert hosted.facts()["service"] == "echo"
    assert (await hosted.ping())["calls"] == 0
    assert hosted.offer.active == "all"


async def test_draining_lets_running_calls_end_and_refuses_new_ones(echo):
    node, hosted = echo
    call = asyncio.create_task(node.ask("echo", "wait"))
    await begun.wait()
    drained = asyncio.create_task(hosted.drain(10))
    await asyncio.sleep(0)
    assert not hosted.active
    with pytest.raises(errors.NotActive) as caught:
        await node.ask("echo", "say", text="a")
    assert caught.value.data["ran"] == "no"
    let_go.set()
    assert await call == "done"
    await drained


@pytest.mark.parametrize("method", ["wait", "wait_inside"])
async def test_what_outlives_the_grace_time_is_cut_off(echo, method):
    node, hosted = echo
    call = asyncio.create_task(node.ask("echo", method))
    await begun.wait()
    await hosted.drain(0.01)
    with pytest.raises(errors.ConnectionLost) as caught:
        await call
    assert caught.value.data["ran"] in ("unknown", "yes")
    assert (await hosted.ping())["calls"] == 0


async def test_a_caller_that_gives_up_ends_its_call(echo):
    node, hosted = echo
    with pytest.raises(TimeoutError):
        await node.call("echo", "wait", b"", timeout=0.01)
    assert (await hosted.ping())["calls"] == 0


async def test_one_instance_alone_needs_a_candidacy():
    with pytest.raises(errors.InvalidInput, match="candidacy"):
        service.Service(app.services["ledger"], clock=clock.SystemClock())


# One instance serves


async def test_the_first_in_order_serves_and_the_other_stands_by(stand, eventually):
    one, two = await stand(FIRST, 0), await stand(SECOND, 1)
    await eventually(lambda: active(one))
    entries, epoch = await one.node.ask("ledger", "enter")
    assert epoch > 0 and entries == 2
    assert (one.services[0].active, two.services[0].active) == (True, False)
    assert (two.services[0].ready, one.services[0].facts()["active"]) == (True, {"main": epoch})
    with pytest.raises(errors.NotActive, match="look it up again") as caught:
        await two.node.ask("ledger", "enter")
    assert caught.value.data["ran"] == "no"
    assert log == ["start"]


async def test_another_epoch_is_refused(stand, eventually):
    one = await stand()
    await eventually(lambda: active(one))
    (hosted,) = one.services
    _, epoch = await one.node.ask("ledger", "enter")
    assert hosted.admit("main", epoch) == hosted.admit("main", 0) == epoch
    for other in (epoch - 1, epoch + 1):
        with pytest.raises(errors.WrongEpoch) as caught:
            hosted.admit("main", other)
        assert caught.value.data == {"ran": "no", "epoch": epoch}


async def test_a_drained_holder_ends_its_calls_and_then_gives_the_office_back(stand, eventually):
    one, two = await stand(FIRST, 0), await stand(SECOND, 1)
    await eventually(lambda: active(one))
    _, epoch = await one.node.ask("ledger", "enter")
    call = asyncio.create_task(one.node.ask("ledger", "wait"))
    await begun.wait()
    drained = asyncio.create_task(one.services[0].drain(10))
    await eventually(lambda: not one.services[0].active)
    with pytest.raises(errors.NotActive):
        await one.node.ask("ledger", "enter")
    assert not await active(two)
    let_go.set()
    assert await call == "done"
    await drained
    await eventually(lambda: active(two))
    entries, later = await two.node.ask("ledger", "enter")
    assert later > epoch and entries == 2
    assert log == ["start", "stop", "start"]


async def test_who_gives_way_to_a_better_candidate_answers_what_runs(stand, eventually):
    two = await stand(SECOND, 1)
    await eventually(lambda: active(two))
    call = asyncio.create_task(two.node.ask("ledger", "wait"))
    await begun.wait()
    one = await stand(FIRST, 0)
    await eventually(lambda: not two.services[0].active)
    with pytest.raises(errors.NotActive):
        await two.node.ask("ledger", "enter")
    assert not await active(one)
    let_go.set()
    assert await call == "done"
    await eventually(lambda: active(one))


async def test_a_holder_that_cannot_start_lets_another_one(stand, eventually, monkeypatch):
    failing = [True]

    async def start(self) -> None:
        if failing:
            failing.clear()
            raise OSError("no database")

    monkeypatch.setattr(Ledger, "start", start)
    one, two = await stand(FIRST, 0), await stand(SECOND, 1)
    await eventually(lambda: active(two))
    assert not await active(one)


async def test_a_node_whose_instance_cannot_start_says_which_and_why(monkeypatch):
    def start(self) -> None:
        raise OSError("no database\nat all")

    monkeypatch.setattr(Echo, "start", start)
    hosted = service.Service(app.services["echo"], clock=clock.SystemClock())
    with pytest.raises(errors.StartupError, match=r"service echo cannot start: OSError: no database at all: mend its start"):
        await hosted.start()
    await hosted.stop()


async def test_domains_go_to_their_groups(stand, eventually):
    grouping = groups.Groups.parse(["north=acme", "south=globex"])
    one = await stand(grouping=grouping)
    await eventually(lambda: active(one, "ledger@acme"))
    await eventually(lambda: active(one, "ledger@team.globex"))
    assert (await one.node.ask("ledger@team.acme", "enter"))[0] == 2
    assert (await one.node.ask("ledger@globex", "enter"))[0] == 2  # An instance for each group.
    with pytest.raises(errors.DomainNotServed, match="main"):
        await one.node.ask("ledger", "enter")


async def test_a_group_of_others_is_not_active_here(stand, eventually):
    one = await stand(grouping=groups.Groups.parse(["north=acme"]))
    candidacy = one.candidacy()
    candidacy.groups._group_of["globex"] = "south"
    await eventually(lambda: active(one, "ledger@acme"))
    with pytest.raises(errors.NotActive, match="south"):
        await one.node.ask("ledger@globex", "enter")


async def test_without_coordination_it_stops_by_its_own_clock_and_resumes(stand, eventually):
    link = Cut()
    one = await stand(link=link)
    await eventually(lambda: active(one))
    call = asyncio.create_task(one.node.ask("ledger", "wait"))
    await begun.wait()
    link.whole = False

    async def unconfirmed() -> bool:
        try:
            await one.node.ask("ledger", "enter")
        except errors.LeaseUnconfirmed as error:
            return error.data["ran"] == "no"
        return False

    await eventually(unconfirmed)
    assert not one.services[0].active
    let_go.set()
    with pytest.raises(errors.CallError) as caught:
        await call
    assert caught.value.data["ran"] in ("yes", "unknown")
    link.whole = True
    await eventually(lambda: active(one))


async def test_who_loses_the_office_answers_no_more(stand, eventually):
    one, two = await stand(FIRST, 0), await stand(SECOND, 1)
    await eventually(lambda: active(one))
    call = asyncio.create_task(one.node.ask("ledger", "stubborn"))
    await begun.wait()
    await two.session.end(one.session.name)
    await eventually(lambda: active(two))
    with pytest.raises(errors.CallError) as caught:
        await call
    assert caught.value.data["ran"] == "yes"
    await eventually(lambda: log.count("stop") == 1)


async def test_an_epoch_that_was_left_in_disorder_is_never_served_again(stand, eventually, monkeypatch):
    """Its `stop` was cut off, and the office comes back: requests under the old epoch stay refused while it starts anew."""

    async def never(self) -> None:
        await asyncio.Event().wait()

    one = await stand()
    await eventually(lambda: active(one))
    (_, old) = await one.node.ask("ledger", "enter")
    other = await memory.MemoryEngine(one.engine._site).session("other")
    monkeypatch.setattr(Ledger, "stop", never)
    monkeypatch.setattr(Ledger, "start", never)
    await other.end(one.session.name)
    standing = one.services[0]._seats._seats["main"].standing
    await eventually(lambda: standing.epoch > old)
    with pytest.raises(errors.NotActive):
        await one.node.ask("ledger", "enter")
    monkeypatch.undo()
    await other.close()


async def test_what_could_not_end_while_the_office_waited_ends_after_it(stand, eventually, monkeypatch):
    """A method that cannot be cancelled takes all the time that a hand-over has; what `start` began is ended all the same."""

    async def goes_on(call: Any, args: bytes) -> bytes:
        begun.set()
        while not let_go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await let_go.wait()
        return b""

    two = await stand(SECOND, 1)
    await eventually(lambda: active(two))
    monkeypatch.setitem(two.services[0]._seats.works[0]._runs, "wait", goes_on)
    call = asyncio.create_task(two.node.ask("ledger", "wait"))
    await begun.wait()
    try:
        one = await stand(FIRST, 0)
        await eventually(lambda: active(one))
        await eventually(lambda: log.count("stop") == 1)
    finally:
        let_go.set()
        await asyncio.gather(call, return_exceptions=True)


async def test_a_stop_that_hangs_does_not_keep_the_office(stand, eventually, monkeypatch):
    async def never(self) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Ledger, "stop", never)
    monkeypatch.setattr(instance, "STOP_SECONDS", 0.05)
    one, two = await stand(FIRST, 0), await stand(SECOND, 1)
    await eventually(lambda: active(one))
    await one.services[0].drain(0)
    await eventually(lambda: active(two))
