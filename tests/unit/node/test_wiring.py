"""What lets nodes reach each other: real sockets, doors and sessions in a directory."""

import asyncio

import pytest

from callboard import errors, settings
from callboard.coordination import engine
from callboard.kit import clock
from callboard.node import layout, wiring
from callboard.roles import role
from callboard.rpc import certs, serving

ONE, TWO = "1" * 32, "2" * 32


class Echo(role.Role):
    """Answers with what it is given."""

    name = "echo"

    @property
    def methods(self):
        async def run(call, args):
            return args

        return {"say": serving.Method("say", run)}


class Place:
    """A data directory, and nodes' wirings in it."""

    def __init__(self, directory):
        self.layout = layout.Layout(directory)
        self.layout.prepare()
        self.made = []

    def wiring(self, incarnation, roles=("worker",), **flags):
        given = settings.load(None, None, {"data": str(self.layout.directory)} | flags)
        record = layout.NodeRecord(incarnation=incarnation, role="worker", directory="/", settings=given)
        self.made.append(wiring.Wiring(record, roles, clock.SystemClock()))
        return self.made[-1]


@pytest.fixture
async def place(tmp_path):
    made = Place(tmp_path / "data")
    yield made
    for each in made.made:
        await each.stop()


async def call(here, there, **more):
    return await here.peers.request(
        there.peers.address, label="echo", domain="main", method="say", args=b"\x80", timeout=10, **more
    )


async def test_two_nodes_of_a_directory_reach_each_other(place):
    one, two = place.wiring(ONE), place.wiring(TWO)
    await one.start()
    await two.start()
    two.table.add(Echo())
    assert await call(one, two) == b"\x80"
    await two.declare(b'{"incarnation":"two"}')
    (entry,) = await one.session.entries("nodes")
    assert (entry.path, entry.session, entry.body) == (f"nodes/{TWO}", f"node-{TWO}", b'{"incarnation":"two"}')


async def test_a_door_is_private_and_goes_with_its_node(place):
    one = place.wiring(ONE, roles=("registry", "gateway"))
    await one.start()
    door = place.layout.door(ONE)
    assert door.stat().st_mode & 0o777 == 0o600
    (found,) = await one._read_doors()
    assert (found.incarnation, found.port, found.roles) == (ONE, one.peers.address.port, ("registry", "gateway"))
    assert len(found.secret) == wiring.SECRET_BYTES
    await one.stop()
    assert not door.exists()


async def test_stopping_ends_the_session_and_what_it_said(place):
    one, two = place.wiring(ONE), place.wiring(TWO)
    await one.start()
    await two.start()
    await two.declare(b"{}")
    await two.stop()
    assert await one.session.entries("nodes") == [] and set(await one.session.sessions()) == {f"node-{ONE}"}


async def test_without_coordination_a_node_starts_and_is_reached_and_declares_itself_later(place, monkeypatch):
    monkeypatch.setattr(wiring, "PATIENCE_SECONDS", 0.05)
    blocked = place.layout.directory / "blocked"
    blocked.write_text("")
    flags = {"coordination.url": f"local://{blocked}/coordination"}
    one, two = place.wiring(ONE, **flags), place.wiring(TWO, **flags)
    await one.start()
    await two.start()
    two.table.add(Echo())
    await two.declare(b"{}")
    assert await call(one, two) == b"\x80" and one.session.state is engine.State.SUSPENDED
    blocked.unlink()
    async with asyncio.timeout(10):
        while True:
            try:
                if await one.session.entries("nodes"):
                    break
            except errors.CoordinationUnavailable:
                pass
            await asyncio.sleep(0.02)


async def test_nodes_of_another_cluster_are_refused(place):
    one, two = place.wiring(ONE), place.wiring(TWO, cluster="other")
    await one.start()
    await two.start()
    with pytest.raises(errors.WrongCluster):
        await call(one, two)


async def test_groups_that_make_no_sense_are_refused(place):
    with pytest.raises(errors.InvalidSetting, match="GROUP=DOMAIN"):
        place.wiring(ONE, **{"service.groups": ("north",)})


@pytest.fixture
async def other_place(tmp_path):
    """That of another server, whose doors nobody here can read."""
    made = Place(tmp_path / "other")
    yield made
    for each in made.made:
        await each.stop()


async def test_servers_of_one_authority_reach_each_other_by_certificates_alone(place, other_place, tmp_path):
    certs.init(tmp_path)
    for name in ("one", "two"):
        certs.issue(tmp_path, name)
    one, two = (
        at.wiring(incarnation, **{"wire.server": name, "wire.certificates": str(tmp_path)})
        for at, incarnation, name in ((place, ONE, "one"), (other_place, TWO, "two"))
    )
    two.table.add(Echo())
    await one.start()
    await two.start()
    assert two.peers.address.server == "two"
    assert await call(one, two) == b"\x80"
    bare = other_place.wiring("3" * 32)
    await bare.start()
    with pytest.raises(errors.CallboardError) as caught:
        await call(bare, two)
    assert isinstance(caught.value, errors.WireRefused | errors.Unreachable)


def test_certificates_that_are_not_there_are_told_at_the_start(place, tmp_path):
    with pytest.raises(errors.WrongCertificate, match="there is no"):
        place.wiring(ONE, **{"wire.server": "one", "wire.certificates": str(tmp_path)})
