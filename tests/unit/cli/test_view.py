"""What `callboard view` prints."""

from callboard.cli import output, view
from callboard.cluster import view as views
from callboard.names import model


def node(incarnation, server, *roles, available=True, services=()):
    return views.Node(incarnation=incarnation, server=server, site="main", roles=roles, services=services, available=available)


NODES = [
    node("a1", "south", "gateway", "registry"),
    node("a2", "south", "worker"),
    node("a3", "south", "worker", available=False),
    node("b1", "north", services=("billing",)),
    node("c1", "", "domain-controller"),
]
OFFICE = views.Office(label="billing", group="main", epoch=12, incarnation="b1", server="north")
NOW = views.View(
    servers={"s1": model.ServerFacts(agent="s1", server="south", site="main", software="1.2", file=3, state="draining")},
    nodes={each.incarnation: each for each in NODES},
    offices={OFFICE.name: OFFICE},
    version=views.Version(5, 6),
)


def test_lines_tell_servers_offices_and_the_version(capsys):
    view._show(NOW, json=False)
    assert capsys.readouterr().out.splitlines() == [
        "server\tsouth\tmain\tdraining\t1.2\t3\tgateway 1, worker 2 (1 leaving)",
        "server\t(this machine)\tmain\tno agent\t\t\tdomain-controller 1",
        "server\tnorth\tmain\tno agent\t\t\tservice 1",
        "office\tbilling.main\t12\tnorth\tb1",
        "version\t5.6\tfresh",
    ]


def test_a_terminal_shows_tables_and_says_when_it_may_be_out_of_date(monkeypatch, capsys):
    monkeypatch.setattr(output, "on_terminal", lambda stream=None: True)
    monkeypatch.setenv("COLUMNS", "80")
    view._show(views.View(NOW.servers, NOW.nodes, NOW.offices, version=NOW.version, stale=True), json=False)
    shown = capsys.readouterr().out
    assert "south" in shown and "gateway 1, worker 2 (1 leaving)" in shown and "billing.main" in shown
    assert "version 5.6, which may be out of date" in shown


def test_changes_are_told_one_a_line(capsys):
    left = views.View(NOW.servers, {key: each for key, each in NOW.nodes.items() if key != "a2"}, {}, version=views.Version(5, 7))
    view._tell(views.change(NOW, left))
    told = [line.split("\t")[1:] for line in capsys.readouterr().out.splitlines()]
    assert told == [
        ["gone", "node", "a2", "south", "worker", "available"],
        ["gone", "office", "billing.main", "12", "north", "b1"],
        ["version", "5.7", "fresh"],
    ]
