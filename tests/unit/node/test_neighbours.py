"""Nodes of other servers: read where they are asked for, believed while coordination is away."""

from typing import Any

import msgspec

from callboard import errors, settings
from callboard.coordination import engine
from callboard.kit import clock
from callboard.node import layout, neighbours, wiring
from callboard.rpc import certs, doors

ONE, TWO = "1" * 32, "2" * 32


def entry(incarnation, **more):
    said = {"pid": 1, "pid_started": 2, "started_at": "", "incarnation": incarnation, "roles": [{"role": "registry", "x": 1}]}
    body = msgspec.json.encode(said | {"host": "10.0.0.2", "port": 3, "server": "two"} | more)
    return engine.Entry(f"nodes/{incarnation}", body, 1, f"node-{incarnation}")


class Session:
    """Coordination with some entries, or out of reach; `reads` are counted."""

    def __init__(self, *found):
        self.found: Any = found
        self.reads = 0

    async def entries(self, folder):
        assert folder == "nodes"
        self.reads += 1
        if self.found is None:
            raise errors.CoordinationUnavailable("away")
        return list(self.found)


async def test_a_node_of_another_server_is_a_door_without_a_secret():
    found = await neighbours.Neighbours(Session(entry(ONE))).doors()
    assert found == [doors.Door(ONE, "10.0.0.2", 3, b"", ("registry",), "two")]


async def test_what_cannot_be_dialled_is_none():
    unready, nobody = entry(ONE, port=0), engine.Entry(f"nodes/{TWO}", b"{", 1, None)
    assert await neighbours.Neighbours(Session(unready, entry(ONE, server=""), nobody)).doors() == []


async def test_many_looks_are_one_read():
    session = Session(entry(ONE))
    known = neighbours.Neighbours(session)
    assert await known.doors() == await known.doors() and session.reads == 1


async def test_while_coordination_is_away_the_last_read_is_believed(monkeypatch):
    session = Session(entry(ONE))
    known = neighbours.Neighbours(session)
    before = await known.doors()
    monkeypatch.setattr(neighbours, "READ_SECONDS", 1e-9)
    session.found = None
    assert await known.doors() == before and session.reads == 2


async def test_a_node_finds_those_of_other_servers_beside_those_here(tmp_path, eventually):
    certs.init(tmp_path)
    made = []
    for incarnation, server in ((ONE, "one"), (TWO, "two")):
        certs.issue(tmp_path, server)
        flags = {"data": str(tmp_path / server), "wire.server": server, "wire.certificates": str(tmp_path)}
        given = settings.load(flags=flags | {"coordination.url": f"local://{tmp_path}/coordination"})
        layout.Layout(given.directory).prepare()
        record = layout.NodeRecord(incarnation=incarnation, role="worker", directory="/", settings=given)
        made.append(wiring.Wiring(record, ("worker",), clock.SystemClock()))
    one, two = made
    try:
        await one.start()
        await two.start()
        for each, incarnation in ((one, ONE), (two, TWO)):
            await each.declare(entry(incarnation, host=each.peers.address.host, port=each.peers.address.port).body)

        async def found():
            return [(door.incarnation, door.roles) for door in await two._read_doors()] == [
                (TWO, ("worker",)),
                (ONE, ("registry",)),
            ]

        await eventually(found)
    finally:
        for each in made:
            await each.stop()
