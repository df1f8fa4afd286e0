"""The list of nodes: what its columns say of services."""

from datetime import UTC, datetime

import pytest

from callboard.cli import nodes, output


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
    output.table(nodes.SHOWN, map(nodes._narrow, rows))
    service, worker, controller, gateway = capsys.readouterr().out.splitlines()[2:]
    assert service.split()[:4] == ["bbd63555", "service", "yes", "1795330473"]
    assert service.split()[-1] == "billing"
    assert worker.split()[-2:] == ["3/16", "bank.pay"]
    assert controller.split()[:4] == ["bbd63555", "controller", "yes", "1795330474"]
    assert gateway.split()[-1] == "http://127.0.0.1:8321"
