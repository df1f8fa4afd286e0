"""What a kind of node hosts."""

import pytest

from callboard import settings
from callboard.node import hosting, layout

HEX = "1" * 32


def record(role, **flags):
    given = settings.load(flags={name.replace("__", "."): value for name, value in flags.items()})
    return layout.NodeRecord(incarnation=HEX, role=role, directory="/", settings=given)


@pytest.mark.parametrize(
    ("kind", "flags", "roles"),
    [
        ("worker", {}, ("worker",)),
        ("service", {}, ("service",)),
        ("gateway", {}, ("registry", "domain-controller", "site-controller", "gateway")),
        ("gateway", {"registry__count": 2}, ("domain-controller", "site-controller", "gateway")),
        ("gateway", {"controller__count": 1}, ("registry", "site-controller", "gateway")),
        ("gateway", {"controller__site_count": 1}, ("registry", "domain-controller", "gateway")),
        ("gateway", {"registry__count": 1, "controller__count": 1, "controller__site_count": 1}, ("gateway",)),
        ("domain-controller", {"controller__count": 2}, ("domain-controller",)),
        ("site-controller", {"controller__site_count": 2}, ("site-controller",)),
        ("registry", {"registry__count": 2}, ("registry",)),
    ],
)
def test_gateways_are_what_has_no_nodes_of_its_own(kind, flags, roles):
    assert hosting.roles(record(kind, **flags)) == roles
    assert set(roles) <= hosting.BUILDERS.keys()
