"""Three servers under load, broken in every way in which servers break: nothing is lost, and soon it is as if nothing had been.

Each test tells how long what was broken was away, for jobs and for callers of names. What is judged each time: what clients were
told (`chronicle`), what handlers did (`history`), what services accepted (`epochs`).
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.faults import breaking, load
from tests.faults.conftest import Measured
from tests.faults.deployment import Node, boot
from tests.faults.servers import clients, meddling, times
from tests.faults.servers.cluster import NAMES, Cluster, Office, Server

pytestmark = pytest.mark.xdist_group("servers")

JOBS = 30
MANY_JOBS = 200
"""In the long form: some 6,000 in all."""
HELD = 12
BUSY_SECONDS = 30.0
"""Bound of what takes a second or two: machines that run tests are busy ones."""
PATIENCE_SECONDS = 60.0
SLOWEST = 5
"""Jobs a second that are acknowledged at least."""


@pytest.fixture
def jobs(request: pytest.FixtureRequest) -> int:
    """How many are to be acknowledged before a break, and after it."""
    return MANY_JOBS if request.config.getoption("--long") else JOBS


async def work(server: Server, seen: clients.Seen, jobs: int) -> None:
    """Wait until so many more jobs are acknowledged."""
    await server.eventually(load.more(seen.load, jobs), PATIENCE_SECONDS + jobs / SLOWEST)


async def victim(cluster: Cluster, role: str) -> tuple[Server, Node]:
    """Return a node of a role: the one in office, where only one is active."""
    offices = await cluster.offices()
    by_role = {
        "service": "billing.main",
        "domain-controller": "domain-controller.main",
        "site-controller": "site-controller.main",
    }
    if role in by_role:
        return cluster.holder(offices[by_role[role]])
    server = cluster.servers[0]
    return server, server.node(role)


async def chosen(cluster: Cluster) -> tuple[Server, Server, dict[str, Office]]:
    """Return the server whose domain controller is in office, once the services are in office there too; another one; and what
    is held by whom then."""
    offices = await cluster.offices()
    gone, _ = cluster.holder(offices["domain-controller.main"])
    stays = cluster.others(gone)[0]
    for name in clients.NAMES:
        if offices[name.replace("@", ".")].server != gone.name:
            await stays.client.move(name, gone.node("service").incarnation)
    return gone, stays, await cluster.offices()


@pytest.mark.parametrize("role", ["gateway", "registry", "worker", "service", "domain-controller", "site-controller"])
async def test_a_process_is_killed(cluster: Cluster, role: str, jobs: int, measured: Measured):
    server, node = await victim(cluster, role)
    async with clients.at(cluster) as seen:
        await work(server, seen, jobs)
        at = server.kill(node.pid)
        await server.eventually(lambda: server.dead(node.pid))
        if lost := cluster.book.held_by(node.pid):  # Read now: what ended just before its death runs nowhere again.
            await server.eventually(lambda: cluster.book.elsewhere(lost, node.pid).keys() >= lost, PATIENCE_SECONDS)
            again = max(cluster.book.elsewhere(lost, node.pid).values())
            measured("worker killed to its jobs run elsewhere", (again - at) / 1e9, BUSY_SECONDS)
        await server.eventually(lambda: seen.asked_after(at), PATIENCE_SECONDS)
        await work(server, seen, jobs)
        await cluster.settle(server.eventually)
    assert not await cluster.verdict()
    assert not seen.failures()
    measured(f"{role} killed: the longest gap between answers to calls", seen.longest_gap(), BUSY_SECONDS)


async def test_an_agent_is_killed(cluster: Cluster, jobs: int):
    """Its nodes work on, and the next one adopts them."""
    server = cluster.servers[1]
    nodes = server.nodes()
    async with clients.at(cluster) as seen:
        await work(server, seen, jobs)
        assert server.agent
        server.kill(server.agent.pid)
        server.agent.wait()
        await work(server, seen, jobs)
        assert (await server.start())["adopted"] == len(nodes)
        await work(server, seen, jobs)
    assert server.nodes() == nodes
    assert not await cluster.verdict()
    assert not seen.failures()


async def test_the_leader_of_zookeeper_is_killed(cluster: Cluster, jobs: int, measured: Measured):
    server = cluster.servers[0]
    nodes = [each.nodes() for each in cluster.servers]
    async with clients.at(cluster) as seen:
        await work(server, seen, jobs)
        at = boot()
        await asyncio.to_thread(lambda: cluster.ensemble.leader().kill())
        await server.eventually(lambda: seen.asked_after(at), PATIENCE_SECONDS)
        await work(server, seen, jobs)
        await asyncio.to_thread(cluster.ensemble.start)
        await work(server, seen, jobs)
    assert [each.nodes() for each in cluster.servers] == nodes
    assert not await cluster.verdict()
    assert not seen.failures()
    measured("ZooKeeper's leader killed: the longest gap between answers to calls", seen.longest_gap(), BUSY_SECONDS)


async def test_the_node_of_galera_that_takes_the_writes_is_killed(cluster: Cluster, jobs: int, measured: Measured):
    server = cluster.servers[0]
    nodes = [each.nodes() for each in cluster.servers]
    async with clients.at(cluster) as seen:
        await work(server, seen, jobs)
        at = boot()
        await asyncio.to_thread(server.galera.kill)
        back = await asyncio.to_thread(breaking.back, cluster.bare(server))
        await server.eventually(lambda: seen.load.since(back), PATIENCE_SECONDS)
        taken = (min(each for each in seen.load.acknowledged if each > back) - back) / 1e9
        await work(server, seen, jobs)
        await asyncio.to_thread(cluster.galera.start)
        await work(server, seen, jobs)
    assert [each.nodes() for each in cluster.servers] == nodes
    assert not await cluster.verdict()
    measured(f"Galera's writer killed (it needed {(back - at) / 1e9:.1f} s): to a job acknowledged, beyond", taken, BUSY_SECONDS)


async def test_a_server_loses_its_power(cluster: Cluster, jobs: int, measured: Measured):
    """The one whose controller is in office, with all that it stands on: links cut, all frozen; and thawed later."""
    gone, stays, offices = await chosen(cluster)
    async with clients.at(cluster) as seen:
        await stays.hold(HELD)
        await work(stays, seen, jobs)
        at = gone.power_off()
        silence = await times.of(cluster, seen, gone, at, offices, cluster.book.held_by(gone.worker()))
        await work(stays, seen, jobs)
        stays.release()
        gone.power_on()
        await asyncio.to_thread(cluster.galera.mend)
        await cluster.settle(stays.eventually)
        await work(stays, seen, jobs)
    assert not await cluster.verdict()
    silence.told("a server without power", measured, BUSY_SECONDS)


async def test_the_controller_in_office_is_on_the_side_of_the_minority(cluster: Cluster, jobs: int, measured: Measured):
    """Its server works on, and nobody hears it; when the network is whole, what it does is refused where it is late."""
    gone, stays, offices = await chosen(cluster)
    async with clients.at(cluster) as seen:
        held = set(await stays.hold(HELD))
        await work(stays, seen, jobs)
        lost = held & cluster.book.held_by(gone.worker())
        at = boot()
        gone.host.cut()
        gone.given_up()
        silence = await times.of(cluster, seen, gone, at, offices, lost)
        await work(stays, seen, jobs)
        stays.release()
        gone.host.heal()
        await asyncio.to_thread(cluster.galera.wait_ready)
        await cluster.settle(stays.eventually)
        await work(stays, seen, jobs)
    assert not await cluster.verdict()
    silence.told("a server cut off", measured, BUSY_SECONDS)


@pytest.mark.parametrize("way", ["deaf", pytest.param("mute", marks=pytest.mark.long)])
async def test_a_link_is_cut_one_way(cluster: Cluster, way: str, jobs: int, measured: Measured):
    """Of the server whose controller is in office: it hears nobody, or nobody hears it."""
    gone, stays, offices = await chosen(cluster)
    hosts = cluster.network.hosts
    async with clients.at(cluster) as seen:
        await work(stays, seen, jobs)
        gone.given_up()
        with meddling.deaf(gone.host) if way == "deaf" else meddling.mute(gone.host, hosts):
            silence = await times.of(cluster, seen, gone, boot(), offices, ())
            await work(stays, seen, jobs)
        await asyncio.to_thread(cluster.galera.wait_ready)
        await cluster.settle(stays.eventually)
        await work(stays, seen, jobs)
    assert not await cluster.verdict()
    silence.told(f"a server {way}", measured, BUSY_SECONDS)


async def test_packets_are_lost(cluster: Cluster, jobs: int, measured: Measured):
    """One of twenty that come to a server."""
    server = cluster.servers[0]
    async with clients.at(cluster) as seen:
        with meddling.lossy(cluster.network.hosts, 0.05) as dropped:
            at = boot()
            await work(server, seen, 2 * jobs)
            await server.eventually(lambda: seen.asked_after(at), PATIENCE_SECONDS)
            assert dropped() > jobs
        await cluster.settle(server.eventually)
    assert not await cluster.verdict()
    measured("5 % of all packets lost: the longest gap between answers to calls", seen.longest_gap(), BUSY_SECONDS)


async def test_what_a_server_stands_on_is_far_away(cluster: Cluster, jobs: int, measured: Measured):
    """All that it says to ZooKeeper and to Galera, and what these answer, takes a tenth of a second."""
    offices = await cluster.offices()
    far, _ = cluster.holder(offices["domain-controller.main"])
    nodes = far.nodes()
    targets = [(each.address, each.port) for each in (*cluster.ensemble.members, *cluster.galera.members)]
    async with clients.at(cluster) as seen:
        async with meddling.slow(far.host, cluster.network.here, targets, 0.1) as came:
            at = boot()
            await work(far, seen, 2 * jobs)
            await far.eventually(lambda: seen.asked_after(at), PATIENCE_SECONDS)
            assert len(came) > len(nodes) and set(came) == {far.host.address}
        await cluster.settle(far.eventually)
    assert far.nodes() == nodes
    assert not await cluster.verdict()
    measured("a server 0.1 s away: the longest gap between answers to calls", seen.longest_gap(), BUSY_SECONDS)


@pytest.mark.parametrize("seconds", [pytest.param(8, id="short"), pytest.param(60, id="minute", marks=pytest.mark.long)])
async def test_zookeeper_is_away(cluster: Cluster, seconds: int, jobs: int, measured: Measured):
    """Longer than session and lease together: nothing expires, meanwhile or when it is back, and nobody is restarted."""
    server = cluster.servers[0]
    nodes = [each.nodes() for each in cluster.servers]
    async with clients.at(cluster) as seen:
        await server.hold(HELD)
        await asyncio.to_thread(cluster.ensemble.stop)
        away = boot()
        await work(server, seen, jobs)
        await server.eventually(lambda: boot() > away + seconds * 1e9, seconds + 10)
        await asyncio.to_thread(cluster.ensemble.start)
        back = boot()
        await server.eventually(lambda: seen.asked_after(back), PATIENCE_SECONDS)
        measured("ZooKeeper serves again to all names answered", (boot() - back) / 1e9, BUSY_SECONDS)
        await cluster.settle(server.eventually)
        await work(server, seen, jobs)
        server.release()
    assert [each.nodes() for each in cluster.servers] == nodes
    assert {(job.attempts, job.deaths) for job in await server.finished()} == {(1, 0)}
    assert not await cluster.verdict()


async def test_a_server_is_drained(cluster: Cluster, jobs: int, measured: Measured):
    """The one whose controller is in office, and then it serves again. Nobody is killed, and nobody is kept waiting."""
    gone, stays, _ = await chosen(cluster)
    async with clients.at(cluster) as seen:
        await work(stays, seen, jobs)
        at = boot()
        await stays.client.drain_server(gone.name)
        await stays.eventually(lambda: not gone.nodes(), PATIENCE_SECONDS)
        measured("a server drained", (boot() - at) / 1e9, PATIENCE_SECONDS)
        await work(stays, seen, jobs)
        assert gone.agent and gone.agent.poll() is None and not gone.nodes()
        await stays.client.undrain_server(gone.name)
        await cluster.settle(stays.eventually)
        await work(stays, seen, jobs)
    assert {(job.attempts, job.deaths) for job in await stays.finished()} == {(1, 0)}
    assert not await cluster.verdict()
    assert not seen.failures()
    measured("a server drained: the longest gap between answers to calls", seen.longest_gap(), BUSY_SECONDS)


@pytest.mark.parametrize("name", [NAMES[0], *(pytest.param(name, marks=pytest.mark.long) for name in NAMES[1:])])
async def test_everything_of_a_server_is_restarted(cluster: Cluster, name: str, jobs: int, measured: Measured):
    """Its agent and its nodes, one after another; in the long form what they stand on, too. Then the next server."""
    server = cluster.servers[NAMES.index(name)]
    nodes = server.nodes()
    async with clients.at(cluster) as seen:
        await work(server, seen, jobs)
        at = boot()
        await server.client.renew_server(name)
        await server.eventually(server.changed(nodes), 2 * PATIENCE_SECONDS)
        await cluster.settle(server.eventually)
        measured("all nodes of a server replaced", (boot() - at) / 1e9, 3 * PATIENCE_SECONDS)
        if jobs > JOBS:
            await asyncio.to_thread(restarted, cluster, server)
        await work(server, seen, jobs)
    assert {(job.attempts, job.deaths) for job in await server.finished()} == {(1, 0)}
    assert not await cluster.verdict()
    assert not seen.failures()
    measured("a server restarted: the longest gap between answers to calls", seen.longest_gap(), BUSY_SECONDS)


def restarted(cluster: Cluster, server: Server) -> None:
    """Stop a server's ZooKeeper and its Galera node in order, one after the other, and start them again."""
    with cluster.ensemble.maintain(server.zookeeper):
        pass
    server.galera.stop()
    cluster.galera.start()


async def test_a_build_without_fences_is_caught(cluster: Cluster):
    """The jobs of a frozen server begin elsewhere, and then it wakes up: what it says of them must not count."""
    gone, stays, _ = await chosen(cluster)
    with careless(cluster):
        ids = set(await stays.hold(HELD, "doze"))
        gone.power_off()
        lost = ids & cluster.book.held_by(gone.worker())
        assert lost
        await stays.eventually(lambda: cluster.book.elsewhere(lost, gone.worker()).keys() >= lost, PATIENCE_SECONDS)
        gone.power_on()
        await asyncio.gather(*(stays.client.wait(id, PATIENCE_SECONDS) for id in lost))
        stays.release()
        await asyncio.to_thread(cluster.galera.mend)
        await cluster.settle(stays.eventually)
        assert len((await cluster.verdict())["unearned"]) >= len(lost)


@contextlib.contextmanager
def careless(cluster: Cluster):
    """Have all workers commit without fences meanwhile: see `shop`."""
    flag = cluster.book.file.with_name(f"{cluster.book.file.name}.unfenced")
    flag.touch()
    try:
        yield
    finally:
        flag.unlink()
