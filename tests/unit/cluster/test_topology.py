"""A cluster's file: what each server runs, and every mistake with its line, its key and what was meant."""

import msgspec
import pytest

from callboard import errors, settings
from callboard.cluster import model, topology

WHOLE = """\
version = 7
cluster = "acme"
app = "shop:app"
log.form = "json"

[store]
url = "mysql://callboard:secret@db/callboard"

[groups]
main = ["."]
north = ["acme", "mills.acme"]

[sites.home]
coordination.url = "zookeeper://a,b,c/home"
worker.slots = 8

[sites.away]
coordination.url = "zookeeper://x,y,z/away"

[servers.alpha]
site = "home"
address = "10.0.0.1"
gateway.host = "0.0.0.0"
worker.count = 0

[servers."beta.acme"]
site = "home"
address = "10.0.0.2"
gateway.count = 0
app = "images:app"
worker = { slots = 2, queues = ["images"] }

[servers.gamma]
site = "away"
address = "10.0.1.1"

[servers.auto]
site = "away"
gateway.count = 0
"""
PAIR = """\
version = 1
store.url = "mysql://u@db/callboard"
coordination.url = "mysql://u@db/callboard"
[servers.one]
address = "10.0.0.1"
[servers.two]
address = "10.0.0.2"
"""


def faults(text):
    with pytest.raises(errors.InvalidSetting) as caught:
        topology.parse(text, "c.toml")
    found = caught.value.data["faults"]
    assert caught.value.message.startswith(found[0]) and "\n" not in caught.value.message
    assert (f"and {len(found) - 1} more" in caught.value.message) == (len(found) > 1)
    return found


def test_what_a_server_runs_is_what_the_file_says_for_all_for_its_site_and_for_it():
    made = topology.parse(WHOLE)
    assert (made.version, made.cluster, list(made.servers), made.together) == (7, "acme", ["alpha", "beta.acme", "gamma"], True)
    beta = model.settings_for(made, "beta.acme")
    assert beta == settings.load(
        flags={
            "cluster": "acme",
            "site": "home",
            "app": "images:app",
            "log.form": "json",
            "store.url": "mysql://callboard:secret@db/callboard",
            "coordination.url": "zookeeper://a,b,c/home",
            "service.groups": ["main=.", "north=acme", "north=mills.acme"],
            "wire.server": "beta.acme",
            "wire.host": "10.0.0.2",
            "gateway.count": 0,
            "worker.slots": 2,
            "worker.queues": ["images"],
        }
    )
    alpha, gamma = (model.settings_for(made, name) for name in ("alpha", "gamma"))
    assert (alpha.app, alpha.worker.slots, alpha.worker.count, alpha.gateway.host) == ("shop:app", 8, 0, "0.0.0.0")
    assert (gamma.site, gamma.worker.slots, gamma.coordination.url) == ("away", 16, "zookeeper://x,y,z/away")


def test_a_server_that_is_not_named_gets_what_others_get():
    made = topology.parse(WHOLE)
    given = model.settings_for(made, "delta", address="10.0.1.9")
    assert (given.wire.server, given.wire.host, given.site, given.gateway.count) == ("delta", "10.0.1.9", "away", 0)
    assert model.settings_for(made, "alpha", address="10.9.9.9").wire.host == "10.0.0.1", "the file knows better"
    with pytest.raises(
        errors.NotFound, match=r"no server 'three' and has no \[servers.auto\]: say --server with one of one, two"
    ):
        topology.parse(PAIR).server("three")


def test_environment_and_flags_go_over_the_file():
    made = topology.parse(PAIR)
    secret = {"CALLBOARD_STORE_URL": "mysql://u:secret@db/callboard"}
    given = model.settings_for(made, "one", environment=secret, flags={"worker.count": 9})
    assert (given.store_url, given.worker.count) == ("mysql://u:secret@db/callboard", 9)


def test_one_server_alone_needs_nothing_but_its_name():
    made = topology.parse("version = 1\n[servers.one]\n")
    assert not made.together
    assert model.settings_for(made, "one") == settings.Settings()


def test_a_topology_is_frozen():
    with pytest.raises(AttributeError):
        setattr(topology.parse(PAIR), "version", 2)  # noqa: B010 - type checkers would see it too
    assert msgspec.structs.replace(topology.parse(PAIR), version=2).version == 2


TWO = "[servers.two]"
STORE = 'store.url = "mysql://u@db/callboard"'
ADDRESS = 'address = "10.0.0.2"'


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("version = 1", "version = '1'", "1: version: is a number from 1 on"),
        ("version = 1", "version = 0", "1: version: is a number from 1 on"),
        ("version = 1", "", "1: version: is missing: write version = 1, and count it up at each change"),
        ("version = 1", "version = 1\nclutser = 'a'", "2: clutser: is not a key of this file: did you mean cluster?"),
        ("version = 1", "version = 1\nworker.slots = 0", "2: worker.slots = 0: Expected `int` >= 1"),
        ("version = 1", "version = 1\ngroups = 3", "2: groups: is a table: write [groups]"),
        ("version = 1", "version = 1\nsite = 'x'", "2: site: write it into the table of a server"),
        (TWO, f"{TWO}\nadress = '1'", "7: servers.two.adress: is not a key of this file: did you mean servers.two.address?"),
        (TWO, f"[servers.two.workers]\nslot = 1\n{TWO}", "7: servers.two.workers.slot: is not a key of this file: did you mean"),
        (TWO, f"[servers.two.wroker]\n{TWO}", "6: servers.two.wroker: is not a key"),
        (TWO, f"{TWO}\nworker = 4", "7: servers.two.worker: is not a key"),
        (TWO, f"{TWO}\nwire.host = '::'", "7: servers.two.wire.host: write it as the address"),
        (TWO, f"{TWO}\nwire.server = 'x'", "7: servers.two.wire.server: the name of its table"),
        (TWO, f"{TWO}\nservice.groups = ['a=.']", "7: servers.two.service.groups: write [groups]"),
        (TWO, f"{TWO}\nservice.group = 'mian'", "7: servers.two.service.group: there is no group 'mian': did you mean main?"),
        (TWO, f"{TWO}\ncoordination.url = 'x:'", "7: servers.two.coordination.url: write it at the top"),
        (TWO, f"{TWO}\nsite = 'West'", "7: servers.two.site: site 'West' is not a label"),
        (TWO, "[servers.Two]", "6: servers.Two: a server's name is labels with dots"),
        (TWO, "[servers.cluster-ca]", "6: servers.cluster-ca: is the name of the authority"),
        (ADDRESS, "", "6: servers.two.address: is missing"),
        (ADDRESS, "address = 3", "7: servers.two.address: is text"),
        (ADDRESS, "address = '0.0.0.0'", "7: servers.two.address: 0.0.0.0 is no address that others reach"),
        ("10.0.0.2", "10.0.0.1", "6: servers.two: has the address and the data directory of one"),
        (STORE, "", "1: store.url: is missing, and several servers share it"),
        (STORE, "store.url = 'sqlite:///x'", "2: store.url: sqlite: works for one server alone"),
        (STORE, "store.url = 'mysql://u:secret@db'", "2: store.url: the name of the database is missing"),
        ('coordination.url = "mysql', 'coordination.url = "local', "3: coordination.url: local: works for one server alone"),
    ],
)
def test_one_mistake_is_told_with_its_line(old, new, said):
    assert PAIR.count(old) == 1
    found = faults(PAIR.replace(old, new))
    assert any(each.startswith(f"c.toml:{said}") for each in found), found
    assert not any("secret" in each for each in found)


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ("a = ['x']\nb = ['x']", "c.toml:10: groups.b: domain x is named by a already"),
        ("A = ['x']", "c.toml:9: groups.A: group 'A' is not a label"),
        ("a = ['x', 3]", "c.toml:9: groups.a: domain 3 is not labels"),
        ("a = ['x.Y']", "c.toml:9: groups.a: domain 'x.Y' is not labels"),
    ],
)
def test_groups(groups, said):
    assert faults(f"{PAIR}[groups]\n{groups}\n")[0].startswith(said)


def test_sites_have_names_and_coordinations_of_their_own():
    place = 'site = "away"\naddress'
    line = WHOLE[: WHOLE.index(place)].count("\n") + 1
    assert faults(WHOLE.replace(place, 'site = "awya"\naddress')) == [
        f"c.toml:{line}: servers.gamma.site: there is no site 'awya': did you mean away?"
    ]
    said = f"c.toml:{line - 1}: servers.gamma.site: is missing: there is home, away"
    assert faults(WHOLE.replace(place, "address")) == [said]
    line = WHOLE[: WHOLE.index("zookeeper://x")].count("\n") + 1
    assert faults(WHOLE.replace("x,y,z/away", "a,b,c/home")) == [
        f"c.toml:{line}: sites.away.coordination.url: sites home and away have the same one: give each its own, in [sites.away]"
    ]


def test_two_servers_of_one_machine_need_ports_and_directories_of_their_own():
    near = PAIR.replace("10.0.0.2", "10.0.0.1") + 'data = "/srv/two"\n'
    assert faults(near) == [
        "c.toml:6: servers.two: has the address of one, and a gateway on the same port: give it another gateway.port"
    ]
    assert topology.parse(near + "gateway.port = 9000\n")
    assert topology.parse(near + "gateway.count = 0\n")
    assert topology.parse(near + "gateway.host = '127.0.0.2'\n")


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file():
    found = faults("version = 0\nappp = 1\n[servers.one]\nworker.slots = -1\n[servers.two]\nx = 1\n")
    assert [int(each.split(":")[1]) for each in found] == sorted(int(each.split(":")[1]) for each in found)
    assert len(found) == 8, found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = 1\n[b\n", "c.toml:2: this is not TOML: expected"),
        ("a = 1\na = 2\n", "c.toml:2: this is not TOML: cannot overwrite a value"),
        ("a = [1,\n", "c.toml:1: this is not TOML: "),
        ("", "c.toml:1: version: is missing"),
        ("version = 1", "c.toml:1: servers: there is none"),
        ("version = 1\nservers = 3", "c.toml:2: servers: is a table"),
    ],
)
def test_what_is_no_file_of_a_cluster(text, said):
    assert any(each.startswith(said) for each in faults(text)), faults(text)
