"""The table of the stores says what engines declare and what was measured, and nothing that was not."""

from __future__ import annotations

import json

import msgspec

from callboard.jobs import engine as seam
from tools import engines


def rows(monkeypatch, tmp_path, figures=None):
    path = tmp_path / "engines.json"
    if figures is not None:
        path.write_text(json.dumps(figures))
    monkeypatch.setattr(engines, "FIGURES", path)
    return {cells[0]: cells[1:] for line in engines.lines() if (cells := [each.strip() for each in line.strip("|").split("|")])}


def test_every_ability_is_told(monkeypatch, tmp_path):
    assert set(engines.ABILITIES) == set(seam.Abilities.__struct_fields__)
    told = rows(monkeypatch, tmp_path)
    assert told["durable"] == ["no", "yes", "yes", "yes", "yes", "yes"]
    assert told[engines.ABILITIES["age_seconds"]] == ["yes"] * 5 + ["20 minutes at most"]
    assert told["several machines"] == ["no", "no", "yes", "yes", "yes", "yes"]


def test_a_store_that_keeps_finished_jobs_for_less_says_how_long(monkeypatch, tmp_path):
    store = engines.STORES[0]
    brief = store._replace(abilities=msgspec.structs.replace(store.abilities, age_seconds=1200))
    monkeypatch.setattr(engines, "STORES", (brief,))
    assert rows(monkeypatch, tmp_path)[engines.ABILITIES["age_seconds"]] == ["20 minutes at most"]


def test_what_was_not_measured_is_said_to_be_so(monkeypatch, tmp_path):
    assert rows(monkeypatch, tmp_path)["server killed: recovery"][2:] == ["not measured yet"] * 4


def test_figures_are_those_of_the_bench(monkeypatch, tmp_path):
    one = {"what": "end to end", "unit": "jobs/s", "median": 12300.0, "least": 11000.0, "greatest": 13000.0}
    kill = {"what": "kill: recovery", "unit": "s", "median": 0.21, "least": 0.21, "greatest": 0.21}
    told = rows(monkeypatch, tmp_path, {"machine": {}, "mariadb": [one, kill]})
    assert told[engines.MEASURED["end to end"]][2:4] == ["12,300 jobs/s (11,000 to 13,000)", "not measured yet"]
    assert told["server killed: recovery"][2] == "0.21 s"


def test_the_bridge_has_its_figures(monkeypatch, tmp_path):
    path = tmp_path / "engines.json"
    monkeypatch.setattr(engines, "FIGURES", path)
    assert [line.count("not measured yet") for line in engines.bridge()] == [0, 0, 1, 1]
    row = {"what": "bridge", "unit": "messages/s", "median": 4200.0, "least": 4200.0, "greatest": 4200.0}
    path.write_text(json.dumps({"activemq": [row]}))
    assert "| 4,200 messages/s |" in "".join(engines.bridge())
