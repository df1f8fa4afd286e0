"""How long commands wait for what was wished, and what they make of what they see meanwhile."""

from datetime import UTC, datetime

import pytest

from callboard import errors
from callboard.cli import wishes
from callboard.http import shapes

NODE = "01a202093cc279f7ad178da2bbd63555"


def server(agent="a1", *, name="s1", **facts):
    given = {"site": "main", "software": "1.0", "file": 0, "state": "serving", "nodes": 3}
    return shapes.Server(**{**given, **facts}, server=name, agent=agent)


class Gateways:
    """A client that is told one thing after another: lists of servers or nodes, or errors. The last one stays."""

    def __init__(self, *told):
        self.told = list(told)
        self.asked = []

    async def servers(self):
        found = self.told.pop(0) if len(self.told) > 1 else self.told[0]
        if isinstance(found, Exception):
            raise found
        return found

    roster = servers

    async def drain_node(self, node):
        return self._wished(node=NODE)

    async def drain_server(self, name, *, force):
        return self._wished(server=name)

    async def renew_server(self, name):
        return self._wished(server=name)

    def _wished(self, **what):
        self.asked.append(what)
        return shapes.Wished(what="drain", wished_at=datetime.now(UTC), by="k", **what)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(wishes, "LOOK_SECONDS", 0.001)


async def test_nobody_waits_who_did_not_ask_to():
    assert (await wishes._drained(Gateways(), "s1", True, False, 0.0))[0] == "draining"
    assert (await wishes._drained(Gateways(), NODE, False, False, 0.0))[0] == "draining"


async def test_a_node_is_drained_when_it_is_gone():
    there, gone = shapes.Nodes([{"incarnation": NODE}]), shapes.Nodes([])
    unknown = shapes.Nodes([], partial=True)
    gateways = Gateways(there, errors.CoordinationUnavailable("away"), unknown, there, gone)
    assert (await wishes._drained(gateways, "bbd63555", False, False, 10.0))[0] == "drained"
    assert gateways.told == [gone]


async def test_a_server_is_drained_when_all_its_agents_say_so():
    gateways = Gateways(
        [server(state="draining")], [server(state="drained"), server("a2", state="draining")], [server(state="drained")]
    )
    assert (await wishes._drained(gateways, "s1", True, False, 10.0))[0] == "drained"
    assert len(gateways.told) == 1


async def test_who_drains_the_server_of_the_own_gateways_is_told_to_ask_elsewhere():
    with pytest.raises(errors.Unreachable, match=r"server s1 drains, and so did the gateways that were asked: .* --url"):
        await wishes._drained(Gateways([server(state="draining")], errors.Unreachable("none")), "s1", True, False, 10.0)


async def test_waiting_has_an_end():
    with pytest.raises(errors.WaitTimeout, match=r"server s1 is not empty after 0.02 s: it goes on"):
        await wishes._drained(Gateways([server(state="draining")]), "s1", True, False, 0.02)


async def test_a_server_is_renewed_when_a_new_agent_has_nothing_left_to_do():
    before = [server(), server("b1", name="s2")]
    gateways = Gateways(
        before,
        before,  # Read where the wish is not seen yet.
        [server(wish="renew")],
        errors.Unreachable("the only gateway is replaced"),
        [server(wish="renew"), server("a2", wish="renew")],
        [server("a2", software="1.1")],
    )
    done = await wishes._renewed(gateways, "s1", 10.0)
    assert (done["server"], done["software"]) == ("s1", "1.1") and len(gateways.told) == 1


async def test_a_renewal_that_stopped_short_is_an_error():
    gateways = Gateways([server()], [server(wish="renew")], [server("a2", trouble="worker cannot start: no module named shop")])
    with pytest.raises(errors.StartupError, match="server s1 is not renewed: worker cannot start"):
        await wishes._renewed(gateways, "s1", 10.0)


async def test_all_means_those_that_are_not_drained(capsys):
    found = [server("c", name="s3"), server(name="s1", wish="drain"), server(name="s2"), server("b2", name="s2")]
    assert await wishes._chosen(Gateways(found)) == ["s2", "s3"]
    assert capsys.readouterr().err == "callboard: server s1 is to be drained: it is left as it is\n"
    assert await wishes._chosen(Gateways([server(name="")])) == ["local"]
