from callboard.cli import names, output
from callboard.http import shapes

NODES = [f"01a202093cc279f7ad178da2bbd635{number:02x}" for number in range(4)]


def listed(instances, standbys=(), **facts):
    given = {"name": "billing@acme", "kind": "service", "active": "one", "group": "north", "epoch": 1795330473}
    places = [shapes.Place(node, server) for node, server in instances]
    return shapes.ListedName(**{**given, **facts}, instances=places, standbys=[shapes.Place(node, "s2") for node in standbys])


def test_a_piped_row_has_everything():
    of = listed([(NODES[0], "s1"), (NODES[1], "s2"), (NODES[2], "s1")], NODES[3:])
    row = ("billing@acme", "service", "north", 1795330473, " ".join(NODES[:3]), "s1 s2", NODES[3], "")
    assert names._row(of, False) == row
    assert names._row(of, True) == (*row[:-1], "stale")
    assert names._row(listed([], epoch=0), False)[3:7] == (None, "", "", "")


def test_a_terminal_of_80_columns_shows_each_name_on_one_line(monkeypatch, capsys):
    monkeypatch.setattr(output, "on_terminal", lambda stream=None: True)
    monkeypatch.setenv("COLUMNS", "80")
    rows = [listed([(NODES[0], "server-1")], NODES[1:3]), listed([(node, "") for node in NODES], epoch=0, name="cache")]
    output.table(names.SHOWN, map(names._narrow, rows))
    billing, cache = capsys.readouterr().out.splitlines()[2:]
    assert billing.split() == ["billing@acme", "bbd63500", "server-1", "1795330473", "bbd63501", "bbd63502"]
    assert cache.split() == ["cache", "4", "nodes"]
