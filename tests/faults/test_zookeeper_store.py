"""What a store in a ZooKeeper ensemble is up against beside what meets databases too: a network that falls apart, and its limit.

All servers killed, and in the long form any of them killed, frozen and stopped: `test_databases_broken`. Connections cut at a
commit: `test_databases_severed`. Many processes at the same jobs: `test_databases_contest`. Frozen ones: `test_frozen`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from callboard import errors
from callboard.cli import exits
from callboard.client import Client
from callboard.jobs import engines, model
from callboard.testing.engines import places, servers
from callboard.testing.engines import zookeeper as zookeepers
from tests.conftest import INSTALL
from tests.faults import breaking, load
from tests.faults.conftest import Measured
from tests.faults.deployment import Deployment, boot
from tests.faults.test_databases_shared import held_by

LIMIT = 40
"""Jobs that are not finished, in a store as small as this."""
PROMISED_SECONDS = 5.0
ELECTED_SECONDS = 20.0


class Apart:
    """An ensemble each of whose servers stands on a host of its own."""

    def __init__(self, network: places.Network, ensemble: zookeepers.Ensemble) -> None:
        self.network = network
        self.ensemble = ensemble
        self.leaders = network.hosts[ensemble.members.index(ensemble.leader())]
        """The host of the one that leads at first."""

    def others_lead(self) -> bool:
        """Whether one leads that is not on that host."""
        others = [member for member in self.ensemble.members if member.address != self.leaders.address]
        return any(member.mode() == "leader" for member in others)


@pytest.fixture
def apart() -> Iterator[Apart]:
    if reason := zookeepers.installed() or places.available():
        pytest.skip(f"needs ZooKeeper and network namespaces ({reason}): {INSTALL}")
    with places.Network(3) as network, zookeepers.Ensemble(hosts=network.hosts) as ensemble:
        yield Apart(network, ensemble)


@pytest.fixture
def store(request: pytest.FixtureRequest) -> str:
    """In a network that can be cut, where a test asks for one; else in the ensemble that all share."""
    if "apart" in request.fixturenames:
        return request.getfixturevalue("apart").ensemble.url("/apart")
    limit = f"?backlog={request.param}" if hasattr(request, "param") else ""
    return request.getfixturevalue("zookeeper").url(f"/broken-{time.time_ns()}{limit}")


@pytest.fixture
async def beside_leader(deployment: Deployment, apart: Apart, tmp_path: Path) -> AsyncIterator[Deployment]:
    """Another deployment on the same store, on the host of the server that leads."""
    notes = tmp_path / "other"
    notes.mkdir()
    made = deployment.beside(notes / "data", notes)
    made.prefix = apart.leaders.prefix
    try:
        yield made
    finally:
        apart.network.heal()
        await made.close()
        made.sweep()


def states(url: str, ids: set[str]) -> set[model.State]:
    """Return the states of some jobs, as the store has them."""
    store = engines.open(url)
    try:
        found = store.get([("main", bytes.fromhex(id.replace("-", ""))) for id in ids])
        return {job.state for job in found if job is not None}
    finally:
        store.close()


@pytest.mark.parametrize("seconds", [pytest.param(0, id="short"), pytest.param(60, id="minute", marks=pytest.mark.long)])
async def test_the_leader_is_cut_off_with_clients_on_its_side(
    deployment: Deployment, beside_leader: Deployment, apart: Apart, seconds: int, measured: Measured
):
    """The majority goes on. Those with the old leader end nothing and take nothing, and go on when the network is whole."""
    await asyncio.gather(*(each.up(workers=1, slots=4) for each in (deployment, beside_leader)))
    nodes = deployment.nodes(), beside_leader.nodes()
    await deployment.hold(6)
    theirs = held_by(beside_leader)
    assert theirs and held_by(deployment)
    async with load.on(deployment) as seen:
        await deployment.eventually(load.more(seen, 20))
        apart.leaders.cut()
        cut = boot()
        await asyncio.to_thread(servers.wait_for, apart.others_lead, "another server leads", ELECTED_SECONDS)
        led = boot()
        await deployment.eventually(load.more(seen, 20))
        measured("leader cut off: another leads to 20 more acknowledged", (boot() - led) / 1e9, PROMISED_SECONDS)
        deployment.release()
        await deployment.eventually(lambda: deployment.book.ids("ended") >= theirs)
        if seconds:  # As long as the command tries.
            refused = await beside_leader.run("submit", "ledger.nap", "--json")
            assert refused.code != exits.Exit.OK and not refused.out and refused.err.count("\n") == 1, refused
        await deployment.eventually(lambda: boot() > cut + seconds * 1e9, seconds + 10)
        assert {word.word for word in states(deployment.url, theirs)} == {"running"}
        apart.leaders.heal()
        healed = boot()
        await deployment.eventually(lambda: {word.word for word in states(deployment.url, theirs)} == {"completed"}, 20)
        measured("network whole to the ends stored of those who were cut off", (boot() - healed) / 1e9, PROMISED_SECONDS)
        await deployment.eventually(load.more(seen, 20))
    assert (deployment.nodes(), beside_leader.nodes()) == nodes
    await breaking.judged(deployment)


async def test_the_leader_is_killed(deployment: Deployment, zookeeper: zookeepers.Ensemble):
    """Another one leads, and work goes on by itself; so it does when the killed one is back."""
    await deployment.up()
    nodes = deployment.nodes()
    await deployment.hold(4)
    async with load.on(deployment) as seen:
        await deployment.eventually(load.more(seen, 20))
        await asyncio.to_thread(lambda: zookeeper.leader().kill())
        await deployment.eventually(load.more(seen, 20), ELECTED_SECONDS)
        await asyncio.to_thread(zookeeper.start)
        await deployment.eventually(load.more(seen, 20))
    assert deployment.nodes() == nodes
    await breaking.judged(deployment)


@pytest.mark.parametrize("store", [pytest.param(LIMIT, id="limited")], indirect=True)
async def test_more_than_it_holds_is_refused_until_there_is_room(deployment: Deployment):
    """One who submits is told so; those who try again find room when jobs end; what was acknowledged is all there."""
    await deployment.up(slots=4)
    held = await deployment.hold(4)
    await deployment.submit("hold", LIMIT - len(held), gate=str(deployment.gate))
    urls, key = deployment.access()
    async with Client(urls, key, timeout=1) as client:
        with pytest.raises(errors.StoreFull, match=str(LIMIT)):
            await client.submit("ledger.nap", {})
    async with load.on(deployment, flows=2) as seen:
        await deployment.eventually(lambda: seen.refused["store_full"])
        assert not seen.acknowledged
        deployment.release()
        await deployment.eventually(load.more(seen, 20))
    await breaking.judged(deployment)
