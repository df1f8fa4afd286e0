"""The list of nodes: what its columns say of services."""

import pytest

from callboard.cli import nodes


@pytest.mark.parametrize(
    ("role", "shown"),
    [
        ({"role": "worker", "slots": 16}, (None, None, None)),
        ({"role": "service", "service": "cache", "active": True}, ("cache", "yes", None)),
        ({"role": "service", "service": "billing", "active": {}}, ("billing", "no", None)),
        ({"role": "service", "service": "billing", "active": {"main": 7}}, ("billing", "yes", "7")),
        ({"role": "service", "service": "billing", "active": {"south": 9, "north": 7}}, ("billing", "yes", "north=7 south=9")),
    ],
)
def test_a_service_is_active_or_stands_by(role, shown):
    (row,) = nodes._rows({"incarnation": "1", "pid": 2, "roles": [role]})
    assert row[:6] == ("1", role["role"], *shown, 2)


def test_a_node_that_only_starts_is_listed():
    (row,) = nodes._rows({"incarnation": "1", "pid": 2, "roles": []})
    assert row[:2] == ("1", "starting")
