"""One after another, and not one more when a new one cannot start. The nursery is a stand-in; the faults have real ones."""

import asyncio

import pytest

from callboard.node import renewal, report


class Place:
    role, index, ward = "worker", 0, None

    def __init__(self, name):
        self.name = name


class Nursery:
    """Has so many places to renew, and says of each what it is told to."""

    def __init__(self, *names, said=None):
        self.left = [Place(name) for name in names]
        self.every = []
        self.said = said or {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.running = self.most = 0

    def due(self, *, every=False):
        self.every.append(every)
        return self.left[0] if self.left else None

    async def replace(self, place):
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        said = self.said.get(place.name, report.Report())
        if said is not None and not said.code:
            self.left.remove(place)
        return said


@pytest.fixture
def told():
    return []


def made(nursery, told):
    return renewal.Renewal(nursery, lambda renewing, trouble: told.append((renewing, trouble)))


async def test_one_after_another(told):
    nodes = Nursery("worker 0", "worker 1", "gateway 0")
    rolling = made(nodes, told)
    assert await rolling.begin(every=True) == "" and nodes.left == []
    assert nodes.most == 1 and all(nodes.every) and told == [(True, ""), (False, "")]


async def test_two_renewals_are_one_after_the_other_and_nothing_to_do_is_nothing_said(told):
    nodes = Nursery("worker 0", "worker 1")
    rolling = made(nodes, told)
    assert list(await asyncio.gather(rolling.begin(), rolling.begin())) == ["", ""]
    assert nodes.most == 1 and told == [(True, ""), (False, "")]


@pytest.mark.parametrize(
    ("said", "why"),
    [(report.Report("app_not_found", "there is no such app"), "there is no such app"), (None, renewal.DIED)],
)
async def test_one_that_cannot_start_stops_it(told, said, why):
    nodes = Nursery("worker 0", "worker 1", "gateway 0", said={"worker 1": said})
    found = await made(nodes, told).begin()
    assert found == f"worker 1 cannot be replaced: {why}" and told == [(True, ""), (False, found)]
    assert [place.name for place in nodes.left] == ["worker 1", "gateway 0"]


async def test_one_that_has_nothing_to_do_any_more_is_no_trouble(told):
    assert await made(Nursery("service 0", said={"service 0": report.Report(idle=True)}), told).begin() == ""


async def test_cut_off_it_replaces_nothing_more(told):
    nodes = Nursery("worker 0", "worker 1")
    nodes.gate.clear()
    rolling = made(nodes, told)
    task = rolling.begin()
    while not nodes.running:
        await asyncio.sleep(0)
    await rolling.cancel()
    assert task.cancelled() and len(nodes.left) == 2 and told == [(True, ""), (False, "")]
