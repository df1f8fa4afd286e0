"""What commands print, in a pipe and on a terminal."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from callboard.cli import output


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(output, "on_terminal", lambda stream=None: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")


def test_a_piped_table_is_tabs_and_nothing_else(capsys):
    output.table(("id", "n", "at"), [("a b", 3, None), ("c\td\n", {"x": 1}, datetime(2030, 1, 1, tzinfo=UTC))])
    assert capsys.readouterr().out == 'a b\t3\t\nc d \t{"x":1}\t2030-01-01T00:00:00Z\n'


def test_piped_facts_are_names_and_values(capsys):
    output.facts([("id", "x"), ("reason", None), ("n", 0)])
    assert capsys.readouterr().out == "id\tx\nn\t0\n"


def test_piped_json_is_one_line(capsys):
    output.document({"a": [1, None]})
    assert capsys.readouterr().out == '{"a":[1,null]}\n'


def test_json_on_a_terminal_is_spread(capsys, terminal):
    output.document({"a": [1]})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"a": [1]}
    assert printed.count("\n") > 2


def test_a_table_on_a_terminal_has_a_head_and_never_cuts_what_names_a_row(capsys, terminal):
    id = "01a20144-7df1-73ef-8bb7-0ae3fc0be417"
    output.table(("id", "kind", "state", "remark"), [(id, "demo.sleep", "completed", "word " * 30)])
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("id", "kind", id, "demo.sleep", "completed"))
    assert max(len(line) for line in printed.splitlines()) <= 80


def test_markup_in_values_is_not_obeyed(capsys, terminal):
    output.facts([("note", "[red]x[/red]")])
    output.table(("note",), [("[bold]y",)])
    printed = capsys.readouterr().out
    assert "[red]x[/red]" in printed and "[bold]y" in printed


def test_control_characters_do_not_reach_a_terminal(capsys):
    output.complain("bad \x1b[31m\nthing\r", "invalid_input")
    assert capsys.readouterr().err == "callboard: bad [31m thing (invalid_input)\n"
    assert output.cell("a\x1b]0;title\x07b") == "a ]0;title b"


def test_times_of_today_are_short_on_a_terminal(terminal):
    now = datetime.now(UTC).replace(microsecond=0)
    assert len(output.cell(now)) == 8
    assert output.cell(now - timedelta(days=3)).startswith("20")


@pytest.mark.parametrize(("value", "text"), [("a", "a"), (3, "3"), (None, "null"), ({"a": [1]}, '{"a":[1]}')])
def test_values_are_written_for_people(value, text):
    assert output.value_text(value) == text
