"""Two servers on one store and one coordination: one goes silent as a whole, and its jobs run on the other one.

And where nobody is silent, nobody's claims end: while coordination is away, and when the controllers themselves die.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from callboard.coordination import engine, engines
from callboard.names import model
from callboard.node import layout
from callboard.rpc import certs
from callboard.testing import severing
from callboard.testing.engines import zookeeper as zookeepers
from tests.faults import breaking, load
from tests.faults.conftest import Measured
from tests.faults.deployment import Deployment, Node, boot

SLOTS = 40
"""Of each server: one of them can always take all that the other one had."""
HELD = 4
"""Jobs that are submitted at each server, where they run, most likely: its own workers hear of them first."""
SESSION_SECONDS = 3.0
LEASE_SECONDS = 3.0
LEFT_SECONDS = 1.0
"""Of a dead server's session, when the controller that counts it dies, too."""
BEYOND_SECONDS = 1.0
"""Promised: so much longer than the slowest of what coordination and the store needed themselves. The store, which nobody breaks
here, needs none of it."""
PROMISED_SECONDS = SESSION_SECONDS + BEYOND_SECONDS
NOISE_SECONDS = 3.0
"""Of a busy machine, on top of what is promised."""
PATIENCE_SECONDS = 20.0
DEPOSED_SECONDS = 75.0
"""A holder that is cut off from the store alone says so after ten seconds, and is deposed a minute later."""


@pytest.fixture
def proxies(victim: breaking.Victim) -> Iterator[list[severing.Proxy]]:
    """Between the first server and the store."""
    with contextlib.ExitStack() as open_:
        ports = [int(host.rpartition(":")[2]) for host in breaking.hosts(victim.url)]
        yield [open_.enter_context(severing.Proxy(port)) for port in ports]


@pytest.fixture
def store(victim: breaking.Victim, proxies: Sequence[severing.Proxy]) -> str:
    before = ",".join(breaking.hosts(victim.url))
    return victim.url.replace(before, ",".join(f"127.0.0.1:{proxy.port}" for proxy in proxies))


@pytest.fixture
def gateways() -> int:
    """How many stand for the office at each server."""
    return 1


@pytest.fixture
async def servers(
    deployment: Deployment, victim: breaking.Victim, zookeeper: zookeepers.Ensemble, tmp_path: Path, gateways: int
) -> AsyncIterator[tuple[Deployment, Deployment]]:
    """Two servers that share a store and coordination, with certificates: they look after each other. The first one, which has
    the office, reaches the store through proxies."""
    notes = tmp_path / "other"
    notes.mkdir()
    other = deployment.beside(notes / "data", notes)
    other.store = victim.url
    certificates = tmp_path / "certificates"
    certs.init(certificates)
    common = ("--set", f"coordination.url={zookeeper.url(f'/{tmp_path.name}')}", "--set", f"wire.certificates={certificates}")
    try:  # One after the other: on few cores, processes that start keep each other from it.
        for each, name in ((deployment, "one"), (other, "other")):
            certs.issue(certificates, name)
            await each.up(*common, "--set", f"wire.server={name}", workers=1, slots=SLOTS, gateways=gateways)
        yield deployment, other
    finally:
        await other.close()
        other.sweep()


async def held(servers: tuple[Deployment, Deployment], kind: str = "hold", **args: object) -> None:
    await asyncio.gather(*(each.hold(HELD, kind, **args) for each in servers))


def held_by(each: Deployment) -> set[str]:
    return {id for node in each.nodes("worker") for id in each.book.held_by(node.pid)}


def again(each: Deployment) -> set[str]:
    """The jobs that began under their second claim."""
    return {mark.id for mark in each.book.marks("began") if mark.fence == 2}


@pytest.fixture
async def coordination(zookeeper: zookeepers.Ensemble, tmp_path: Path) -> AsyncIterator[engine.Session]:
    """The test's own view of what the servers are coordinated by."""
    opened = engines.open(zookeeper.url(f"/{tmp_path.name}"))
    session = await opened.session("test")
    yield session
    await session.close()
    await opened.close()


async def forgotten(coordination: engine.Session, gone: Deployment) -> int:
    """Wait until coordination has given up a server, its agent and all nodes; return when (CLOCK_BOOTTIME). This is what
    coordination needs itself."""
    nodes = {layout.session_name(node.incarnation) for node in gone.nodes()}

    async def only_others() -> bool:
        sessions = set(await coordination.sessions())
        return not sessions & nodes and sum(name.startswith("agent-") for name in sessions) == 1

    await gone.eventually(only_others, PATIENCE_SECONDS)
    return boot()


async def held_elsewhere(coordination: engine.Session, gone: Deployment, stays: Deployment) -> int:
    """Wait until a node of another server has the office; return when (CLOCK_BOOTTIME)."""
    others = {node.incarnation.encode() for node in stays.nodes()}

    async def has() -> bool:
        return any(other in entry.body for entry in await coordination.entries(model.ACTIVE) for other in others)

    await gone.eventually(has, PATIENCE_SECONDS)
    return boot()


def by_load(servers: tuple[Deployment, Deployment]) -> list[Deployment]:
    """The one that holds the most jobs first; the other one has slots for them."""
    return sorted(servers, key=lambda each: len(held_by(each)), reverse=True)


def controllers(each: Deployment) -> list[Node]:
    """Return the nodes of a server that say that they hold an office of a domain controller."""
    place = layout.Layout(each.data)
    told = [layout.entry(found) for found in place.sessions().entries(layout.NODES)]
    holding = {
        entry.pid for entry in told if entry for role in entry.roles if role["role"] == "domain-controller" and role["active"]
    }
    return [node for node in each.nodes("gateway") if node.pid in holding]


def deposed_for(servers: tuple[Deployment, Deployment]) -> set[str]:
    """Return why registries deposed domain controllers, as their logs say."""
    logs = [path.read_text(errors="replace") for each in servers for path in (each.data / "nodes").glob("*.log")]
    lines = [line for log in logs for line in log.splitlines() if "event=deposed" in line and "domain-controller" in line]
    return {why for line in lines for why in re.findall(r'why="([^"]*)"', line)}


@breaking.victims("mariadb", long=("postgresql", "galera-1"))
@pytest.mark.parametrize("office", [True, False], ids=["with the office", "without it"])
async def test_the_jobs_of_a_dead_server_run_on_the_other(
    servers: tuple[Deployment, Deployment],
    victim: breaking.Victim,
    coordination: engine.Session,
    office: bool,
    measured: Measured,
    record_property: Callable[[str, object], None],
):
    """Session and lease pass at the same time, also where whoever had the office is gone with the server."""
    await servers[0].eventually(lambda: sum(len(controllers(each)) for each in servers) == 1, PATIENCE_SECONDS)
    gone, stays = sorted(servers, key=lambda each: bool(controllers(each)), reverse=office)
    while not held_by(gone):
        await held(servers)
    lost, kept = held_by(gone), held_by(stays)
    watching = asyncio.gather(forgotten(coordination, gone), held_elsewhere(coordination, gone, stays))
    await asyncio.sleep(0)
    at = gone.kill_all()
    await stays.eventually(lambda: again(stays) == lost, PATIENCE_SECONDS)
    ran = max(mark.at for mark in stays.book.marks("began") if mark.fence == 2)
    session, taken = await watching
    which = "the server with the office" if office else "the other server"
    needed = (session - at) / 1e9
    record_property(
        "figure", f"{victim.name}: {which} is killed to its sessions are over, which is ZooKeeper's own: {needed:.2f} s"
    )
    measured(
        f"{victim.name}: {which} is killed to its jobs run elsewhere", (ran - at) / 1e9, needed + BEYOND_SECONDS + NOISE_SECONDS
    )
    measured(f"{victim.name}: the same, beyond ZooKeeper's own", max(0.0, ran - session) / 1e9, BEYOND_SECONDS + NOISE_SECONDS)
    if office:
        measured(
            f"{victim.name}: the same, to its office is held elsewhere",
            (taken - at) / 1e9,
            needed + BEYOND_SECONDS + NOISE_SECONDS,
        )
    assert held_by(stays) == lost | kept
    stays.release()
    assert {(job.state, job.attempts) for job in await stays.finished()} == {("completed", 1)}
    assert not (await stays.verdict()).faults


@breaking.victims("mariadb", long=("postgresql",))
@pytest.mark.long
async def test_a_controller_that_is_cut_off_from_the_store_alone_makes_room(
    servers: tuple[Deployment, Deployment], proxies: Sequence[severing.Proxy], measured: Measured
):
    """Its session lives, it answers pings, and nobody's jobs would be rescued."""
    cut, other = servers
    await held(servers)
    await cut.eventually(lambda: controllers(cut) and not controllers(other), PATIENCE_SECONDS)
    at = boot()
    for proxy in proxies:
        proxy.silence()
    await other.eventually(lambda: controllers(other), DEPOSED_SECONDS + PATIENCE_SECONDS)
    measured(
        "a controller is cut off from the store, to the next one serves", (boot() - at) / 1e9, DEPOSED_SECONDS + NOISE_SECONDS
    )
    await cut.eventually(lambda: not controllers(cut), PATIENCE_SECONDS)
    assert deposed_for(servers) == {"it holds the office and does not serve for 60 s"}
    for proxy in proxies:
        proxy.speak()
    await breaking.judged(other)


@breaking.victims("mariadb", long=("postgresql",))
async def test_a_frozen_server_that_wakes_up_changes_nothing(
    servers: tuple[Deployment, Deployment], victim: breaking.Victim, measured: Measured
):
    """Its jobs have ended elsewhere; its own handlers come to their end, too, and what they say is refused."""
    await held(servers, "hold_thread", stubborn=True)
    frozen, stays = by_load(servers)
    lost = held_by(frozen)
    pids = {node.pid for node in frozen.nodes("worker")}
    at = frozen.freeze_all()
    await stays.eventually(lambda: again(stays) == lost, PATIENCE_SECONDS)
    ran = max(mark.at for mark in stays.book.marks("began") if mark.fence == 2)
    measured(
        f"{victim.name}: a whole server is frozen to its jobs run elsewhere", (ran - at) / 1e9, PROMISED_SECONDS + NOISE_SECONDS
    )
    stays.release()
    await stays.finished()
    frozen.thaw_all()
    await stays.eventually(lambda: {mark.id for mark in stays.book.marks("ended") if mark.pid in pids} == lost)
    async with load.on(frozen) as seen:  # It works again, and so it has heard.
        await stays.eventually(load.more(seen, 20), PATIENCE_SECONDS)
    jobs = {job.id: job for job in await stays.finished()}
    assert {(jobs[id].state, jobs[id].fence, jobs[id].result, jobs[id].deaths) for id in lost} == {("completed", 2, 2, 1)}
    assert not (await stays.verdict()).faults


@breaking.victims("mariadb")
@pytest.mark.parametrize("seconds", [pytest.param(8, id="short"), pytest.param(20, marks=pytest.mark.long)])
async def test_while_coordination_is_away_nothing_expires(
    servers: tuple[Deployment, Deployment], zookeeper: zookeepers.Ensemble, seconds: int
):
    """Longer than session and lease together; nor does anything when it is back."""
    await held(servers)
    nodes = [each.nodes() for each in servers]
    await asyncio.to_thread(zookeeper.stop)
    away = boot()
    await servers[0].eventually(lambda: boot() > away + seconds * 1e9, seconds + 10)
    await asyncio.to_thread(zookeeper.start)
    back = boot()
    await servers[0].eventually(lambda: boot() > back + PROMISED_SECONDS * 1e9, PROMISED_SECONDS + 10)
    await servers[0].eventually(lambda: len(controllers(servers[0]) + controllers(servers[1])) == 1, PATIENCE_SECONDS)
    assert [each.nodes() for each in servers] == nodes
    await breaking.judged(servers[0])


@breaking.victims("mariadb", long=("postgresql",))
@pytest.mark.parametrize("gateways", [2])
async def test_the_next_controller_goes_on(servers: tuple[Deployment, Deployment], measured: Measured):
    """The one in office dies while it counts; the next one has counted, too."""
    await servers[0].eventually(lambda: len(controllers(servers[0]) + controllers(servers[1])) == 1, PATIENCE_SECONDS)
    stays = next(each for each in servers if controllers(each))
    gone = next(each for each in servers if each is not stays)
    while not held_by(gone):
        await held(servers)
    lost, died = held_by(gone), gone.kill_all()
    await stays.eventually(lambda: boot() > died + (SESSION_SECONDS - LEFT_SECONDS) * 1e9)
    at = stays.kill(controllers(stays)[0].pid)
    await stays.eventually(lambda: again(stays) >= lost, PATIENCE_SECONDS)
    ran = max(mark.at for mark in stays.book.marks("began") if mark.id in lost and mark.fence == 2)
    measured(
        "the controller in office is killed while it counts, to the jobs run",
        (ran - at) / 1e9,
        LEFT_SECONDS + BEYOND_SECONDS + NOISE_SECONDS,
    )
    stays.release()
    assert {(job.state, job.attempts) for job in await stays.finished()} == {("completed", 1)}
    assert not (await stays.verdict()).faults
