"""The list of nodes: what its columns say of services."""

from datetime import UTC, datetime

import pytest

from callboard.cli import access, exits, nodes, output
from callboard.http import shapes


@pytest.mark.parametrize(
    ("role", "shown"),
    [
        ({"role": "worker", "slots": 16}, (None, None, None)),
        ({"role": "service", "service": "cache", "active": True}, ("cache", "yes", None)),
        ({"role": "service", "service": "billing", "active": {}}, ("billing", "no", None)),
        ({"role": "service", "service": "billing", "active": {"main": 7}}, ("billing", "yes", "7")),
        ({"role": "service", "service": "billing", "active": {"south": 9, "north": 7}}, ("billing", "yes", "north=7 south=9")),
        ({"role": "domain-controller", "active": {"main": 7}}, (None, "yes", "7")),
        ({"role": "domain-controller", "active": {}}, (None, "no", None)),
    ],
)
def test_a_service_is_active_or_stands_by(role, shown):
    (row,) = nodes._rows({"incarnation": "1", "pid": 2, "roles": [role]})
    assert row[:6] == ("1", role["role"], *shown, 2)


def test_a_node_that_only_starts_is_listed():
    (row,) = nodes._rows({"incarnation": "1", "pid": 2, "roles": []})
    assert row[:2] == ("1", "starting")


def test_a_terminal_of_80_columns_shows_each_node_on_one_line(monkeypatch, capsys):
    monkeypatch.setattr(output, "on_terminal", lambda stream=None: True)
    monkeypatch.setenv("COLUMNS", "80")
    roles = [
        {"role": "service", "service": "billing", "active": {"main": 1795330473}},
        {"role": "worker", "running": 3, "slots": 16, "kinds": ["bank.pay"]},
        {"role": "domain-controller", "active": {"main": 1795330474}},
        {"role": "gateway", "url": "http://127.0.0.1:8321"},
    ]
    rows = nodes._rows(
        {
            "incarnation": "01a202093cc279f7ad178da2bbd63555",
            "pid": 10861,
            "started_at": datetime.now(UTC).isoformat(),
            "roles": roles,
        }
    )
    nodes._draw(list(rows))
    columns, _, service, worker, controller, gateway = capsys.readouterr().out.splitlines()
    assert "server" not in columns
    assert service.split()[:4] == ["bbd63555", "service", "yes", "1795330473"]
    assert service.split()[-1] == "billing"
    assert worker.split()[-2:] == ["3/16", "bank.pay"]
    assert controller.split()[:4] == ["bbd63555", "controller", "yes", "1795330474"]
    assert gateway.split()[-1] == "http://127.0.0.1:8321"


def test_where_servers_have_names_each_node_says_its_own(monkeypatch, capsys):
    monkeypatch.setattr(output, "on_terminal", lambda stream=None: True)
    monkeypatch.setenv("COLUMNS", "100")
    found = [
        {"incarnation": "1" * 32, "pid": 2, "server": "server-1", "roles": [{"role": "worker", "slots": 16, "running": 3}]},
        {"incarnation": "2" * 32, "pid": 3, "server": "", "roles": []},
    ]
    rows = [row for node in found for row in nodes._rows(node)]
    assert [row[-1] for row in rows] == ["server-1", None]
    nodes._draw(rows)
    columns, _, worker, starting = capsys.readouterr().out.splitlines()
    assert columns.split()[:3] == ["node", "server", "role"]
    assert worker.split()[:3] == ["11111111", "server-1", "worker"]
    assert starting.split()[:2] == ["22222222", "starting"]


@pytest.mark.parametrize("partial", [False, True])
async def test_a_list_that_may_lack_servers_says_so(monkeypatch, capsys, partial):
    class Gateways:
        async def __aenter__(self):
            return self

        async def __aexit__(self, *_):
            pass

        async def roster(self):
            return shapes.Nodes([{"incarnation": "1", "server": "s1", "roles": []}], partial)

    monkeypatch.setattr(access.Access, "client", lambda self: Gateways())
    assert await nodes.nodes() == exits.Exit.OK
    said = capsys.readouterr()
    assert said.out.split() == ["1", "starting", "s1"]
    assert ("coordination is out of reach" in said.err) is partial
