"""`callboard certs`: what it makes and what it prints."""

import json

from callboard.cli import program
from callboard.rpc import sockets


def test_an_authority_and_a_server(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert program.run(["certs", "init"]) == 0
    assert program.run(["certs", "issue", "one.example"]) == 0
    facts = dict(line.split("\t") for line in capsys.readouterr().out.splitlines()[4:])
    assert facts["name"] == "one.example" and facts["valid_until"].endswith("Z")
    assert sockets.Tls.load(tmp_path / "certs" / "cluster-ca.pem", tmp_path / facts["certificate"], tmp_path / facts["key"])


def test_json(tmp_path, capsys):
    assert program.run(["certs", "init", "--dir", str(tmp_path / "d"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "cluster-ca"


def test_misuse_is_one_line(tmp_path, capsys):
    for tokens, said in (
        (["issue", "one"], "callboard certs init"),
        (["issue"], "NAME"),
        (["issue", "Not A Name"], "is not labels with dots"),
        (["make"], "init, issue"),
    ):
        assert program.run(["certs", *tokens, *(["--dir", str(tmp_path)] if len(tokens) > 1 else [])]) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.count("\n") == 1 and said in printed.err
