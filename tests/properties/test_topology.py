"""Any file of a cluster: it is read or told to be wrong, each fault with a line of it; and what is right reaches its server."""

from __future__ import annotations

import difflib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as some

from callboard import errors, settings
from callboard.cluster import model, topology
from tests.properties.test_lines import FILES, Writer

FRAME = """\
version = 1
store.url = "mysql://u@db/callboard"
coordination.url = "mysql://u@db/callboard"
{top}
[sites.main]
{site}
[servers.one]
address = "10.0.0.1"
{server}
[servers.two]
address = "10.0.0.2"
"""
VALUES = {
    "worker.slots": some.integers(1, 99),
    "worker.count": some.integers(0, 9),
    "gateway.count": some.integers(0, 9),
    "service.preempt": some.booleans(),
    "log.level": some.sampled_from(("debug", "error")),
    "data": some.sampled_from(("here", "/srv/there")),
    "retention.keep": some.integers(0, 9),
}
DEFAULTS = settings.fields()
LEVEL = some.fixed_dictionaries({}, optional=VALUES)


def written(level: dict[str, object]) -> str:
    """On one line, so that the lines around it are known."""
    return "\n".join(
        f"{name} = {str(value).lower() if not isinstance(value, str) else repr(value)}" for name, value in level.items()
    )


@given(LEVEL, LEVEL, LEVEL)
def test_the_nearer_a_setting_stands_to_its_server_the_more_it_counts(top, site, server):
    made = topology.parse(FRAME.format(top=written(top), site=written(site), server=written(server)))
    for name, nearer in (("one", top | site | server), ("two", top | site)):
        given = model.settings_for(made, name)
        for setting in VALUES:
            group, _, field = setting.rpartition(".")
            assert getattr(getattr(given, group) if group else given, field) == nearer.get(setting, DEFAULTS[setting][1])


@given(FILES, some.integers(0, 1 << 32))
def test_whatever_toml_it_is_its_faults_have_lines_of_it(tree, seed):
    writer = Writer(seed)
    writer.table((), tree)
    with pytest.raises(errors.InvalidSetting) as caught:
        topology.parse(writer.text, "c.toml")
    for fault in caught.value.data["faults"]:
        found = re.match(r"c\.toml:(\d+): ", fault)
        assert found and 1 <= int(found[1]) <= writer.text.count("\n") + 1 and "\n" not in fault


@given(some.sampled_from(sorted(VALUES)), some.integers(0, 20), some.sampled_from(("top", "site", "server")), some.integers(0, 3))
def test_a_misspelt_setting_is_named_with_its_line_and_a_near_one(name, place, level, blank):
    place %= len(name)
    wrong = name[:place] + name[place + 1 :]
    if wrong in settings.fields() or wrong.startswith(".") or wrong.endswith(".") or not wrong.replace(".", ""):
        return
    text = FRAME.format(**{"top": "", "site": "", "server": "", level: "\n" * blank + f"{wrong} = 1"})
    with pytest.raises(errors.InvalidSetting) as caught:
        topology.parse(text, "c.toml")
    (fault,) = caught.value.data["faults"]
    line = next(number for number, each in enumerate(text.splitlines(), 1) if each == f"{wrong} = 1")
    table = {"top": "", "site": "sites.main.", "server": "servers.one."}[level]
    assert fault.startswith(f"c.toml:{line}: {table}{wrong}: is not a key of this file")
    meant = re.search(r"did you mean (\S+)\?", fault)
    assert meant and difflib.SequenceMatcher(None, meant[1], table + name).ratio() > 0.5
