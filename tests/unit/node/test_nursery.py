"""Which nodes should run."""

import asyncio
import time

import pytest

from callboard import errors, settings
from callboard.kit import clock
from callboard.node import children, layout, nursery, report


@pytest.mark.parametrize(
    ("flags", "registry", "controller", "service", "worker", "gateway"),
    [
        ({}, 0, 0, 0, 2, 1),
        ({"app": "shop:app"}, 0, 0, 2, 2, 1),
        ({"controller.count": 2}, 0, 2, 0, 2, 1),
        ({"controller.site_count": 2}, 0, 0, 0, 2, 1),
        ({"app": "shop:app", "service.count": 0, "registry.count": 3, "worker.count": 0, "gateway.count": 2}, 3, 0, 0, 0, 2),
    ],
)
def test_without_an_app_nobody_serves_and_all_else_is_as_it_is_set(flags, registry, controller, service, worker, gateway):
    given = settings.load(flags=flags)
    wanted = {"registry": registry, "domain-controller": controller, "service": service, "worker": worker, "gateway": gateway}
    assert nursery.wanted(given) == {**wanted, "site-controller": given.controller.site_count}


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (report.Report(errors.StoreUnavailable.code, "the server is away"), nursery.AWAY_DELAY_SECONDS),
        (report.Report(errors.AppNotFound.code, "no such module"), 20),
        (report.Report(), 20),
        (None, 20),
    ],
)
def test_who_lacked_what_is_away_for_a_while_is_soon_tried_again(said, seconds):
    assert nursery.delay_after(said, 20) == seconds
    assert nursery.delay_after(said, 0.1) == 0.1


class Ward:
    """A node that only does what it is told, here; `signals` are what it was sent."""

    adopted, exit_code = False, 0

    def __init__(self, record, ended):
        self.record = record
        self.process = self
        self.pid = 1
        self.leaving = False
        self.signals = []
        self.born = time.monotonic()
        self.ready = asyncio.get_running_loop().create_future()
        self.ready.set_result(report.Report())
        self.dead = asyncio.Event()
        self._ended = ended

    def signal(self, number):
        self.leaving = True
        self.signals.append(number)

    def die(self):
        self._ended(self)
        self.dead.set()


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A nursery of one node of a kind, and the nodes that it started."""
    started = []

    def start(record, place, ended):
        started.append(Ward(record, ended))
        return started[-1]

    def make(**counts):
        given = settings.load(flags={"worker.count": 0, "gateway.count": 0, **{f"{role}.count": 1 for role in counts}})
        return nursery.Nursery(given, layout.Layout(tmp_path), clock.SystemClock(), lambda _: None), started

    monkeypatch.setattr(children, "start", start)
    return make


async def drained(nodes):
    """Have all nodes asked to leave, and then that taken back."""
    emptying = asyncio.create_task(nodes.empty(60, asyncio.Event()))
    while not all(ward.leaving for ward in nodes.wards.values()):
        await asyncio.sleep(0)
    emptying.cancel()
    await asyncio.gather(emptying, return_exceptions=True)
    nodes.fill()


async def test_a_drain_that_is_taken_back_waits_for_nobody_that_was_asked_to_leave(made):
    nodes, started = made(worker=1)
    nodes.fill()
    await drained(nodes)
    old, new = started
    assert not new.leaving and list(nodes.wards.values()) == [old, new] and len(old.signals) == 1
    old.die()
    await asyncio.sleep(0)
    assert list(nodes.wards.values()) == [new] and len(started) == 2


async def test_a_gateway_is_waited_for_since_it_has_the_port(made):
    nodes, started = made(gateway=1)
    nodes.fill()
    await drained(nodes)
    assert len(started) == 1
    started[0].die()
    async with asyncio.timeout(5):
        while len(started) < 2:
            await asyncio.sleep(0)
    assert not started[1].leaving


async def test_nothing_is_replaced_that_is_not_to_run(made):
    nodes, _ = made(worker=1, gateway=1)
    nodes.fill()
    emptying = asyncio.create_task(nodes.empty(60, asyncio.Event()))
    while not any(ward.leaving for ward in nodes.wards.values()):
        await asyncio.sleep(0)
    nodes.want(settings.load(flags={"log.level": "debug"}))
    assert nodes.due() is None
    emptying.cancel()
    await asyncio.gather(emptying, return_exceptions=True)
    nodes.fill()
    assert nodes.due().role == "gateway", "the worker's place has a new one by now"


async def test_a_gateways_replacement_that_is_cut_off_starts_none_beside_it(made):
    nodes, started = made(gateway=1)
    nodes.fill()
    replacing = asyncio.create_task(nodes.replace(nodes.places["gateway", 0]))
    await asyncio.sleep(0)
    replacing.cancel()
    await asyncio.gather(replacing, return_exceptions=True)
    assert len(started) == 1 and started[0].leaving
    started[0].die()
    async with asyncio.timeout(5):
        while len(started) < 2:
            await asyncio.sleep(0)


async def test_a_gateway_is_replaced_by_one_that_starts_when_it_has_ended(made):
    nodes, started = made(gateway=1)
    nodes.fill()
    replacing = asyncio.create_task(nodes.replace(nodes.places["gateway", 0]))
    await asyncio.sleep(0)
    assert len(started) == 1
    started[0].die()
    assert await replacing == report.Report()
    for _ in range(5):
        await asyncio.sleep(0)
    assert list(nodes.wards.values()) == started[1:] and len(started) == 2


async def test_where_no_process_can_be_started_nobody_leaves(made, monkeypatch):
    nodes, started = made(worker=1)
    nodes.fill()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(children, "start", full)
    said = await nodes.replace(nodes.places["worker", 0])
    assert said.code and "agent's log" in said.message and not started[0].leaving
