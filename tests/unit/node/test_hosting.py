"""What a kind of node hosts, and who is listed."""

import pytest

from callboard import errors, settings
from callboard.coordination import engine
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


class Session:
    """Coordination with one entry, or out of reach."""

    def __init__(self, found):
        self.found = found

    async def entries(self, folder):
        assert folder == "nodes"
        if self.found is None:
            raise errors.CoordinationUnavailable("away")
        return self.found


async def test_the_roster_is_the_sites_and_what_is_said_here_is_newer(tmp_path):
    lives = layout.Layout(tmp_path).sessions()
    session = lives.session(layout.session_name(HEX))
    session.put(f"nodes/{HEX}", b"{}")
    known = [engine.Entry(f"nodes/{HEX}", b'{"port":1}', 7, "x"), engine.Entry("nodes/" + "0" * 32, b'{"port":2}', 8, "y")]
    listed = await hosting.roster(lives, Session(known))
    assert [(entry.path[-1], entry.body) for entry in listed] == [("0", b'{"port":2}'), ("1", b"{}")]
    assert [entry.body for entry in await hosting.roster(lives, Session([]))] == [b"{}"]
    assert [entry.body for entry in await hosting.roster(lives, Session(None))] == [b"{}"]
    session.close()
