"""The table of servers says what was measured, whether it is enough, and nothing that was not."""

from __future__ import annotations

import json

import pytest

from tools import servers

KILLED = {"kills": 50, "p50_ms": 21.4, "p99_ms": 640.0, "max_ms": 902.1, "seconds": [0.0214]}
GATEWAYS = {
    "gateways": 6,
    "kills": 50,
    "seconds_between": 2.0,
    "requests": 20_000,
    "failed": {},
    "jobs_lost": 0,
    "retries": 123,
    "p50_ms": 8.0,
    "p99_ms": 420.0,
    "max_ms": 1900.0,
}
SPREAD = {"median": 0.97, "least": 0.9, "greatest": 1.04}
RATES = {
    "with": {"median": 19400.0},
    "without": {"median": 20000.0},
    "ratio": SPREAD,
    "ratios": [0.9, 0.97, 1.04],
    "core_percent": {"median": 2.5, "least": 2.0, "greatest": 3.0},
}
VIEW = {
    "changes": 200,
    "write": {"p50_ms": 3.0, "p99_ms": 9.0, "max_ms": 20.0},
    "last_node": {"p50_ms": 30.0, "p99_ms": 90.0, "max_ms": 120.0},
    "node_cpu_ms_per_second": 1.0,
    "node_bytes_per_second": 20.0,
    "controller_cpu_ms_per_second_and_node": 0.5,
    "controller_bytes_per_second_and_node": 10.0,
}


def reached(monkeypatch, tmp_path, figures):
    path = tmp_path / "servers.json"
    path.write_text(json.dumps(figures))
    monkeypatch.setattr(servers, "FIGURES", path)
    rows = [[each.strip() for each in line.strip("|").split("|")] for line in servers.lines() if line.startswith("|")]
    return {row[0]: row[2] for row in rows[2:]}


def test_what_was_not_measured_is_said_to_be_so(monkeypatch, tmp_path):
    told = reached(monkeypatch, tmp_path, {})
    assert set(told.values()) == {servers.ABSENT} and len(told) == len(servers.LINES)
    monkeypatch.setattr(servers, "FIGURES", tmp_path / "none.json")
    assert servers.ABSENT in "".join(servers.lines())


def test_figures_are_those_of_the_bench(monkeypatch, tmp_path):
    figures = {"workers": {"other server": KILLED}, "gateways": GATEWAYS, "throughput": {"mariadb": RATES}, "view": {"50": VIEW}}
    told = reached(monkeypatch, tmp_path, figures)
    assert told[f"{servers.KILLED}free slots on the other server alone"] == "p50 21 ms, p99 0.64 s, most 0.90 s of 50 kills"
    assert told[f"{servers.KILLED}free slots on its own server"] == servers.ABSENT
    assert told["200 requests/s with the client while gateways are killed"] == (
        "failed: none of 20,000; jobs lost: none; 123 tried again"
    )
    assert told["the same: how long a request takes"].endswith("50 kills, one every 2 s, of 6 gateways")
    assert told[f"{servers.RATE}MariaDB"] == "0.97 of 20,000 jobs/s (0.90 to 1.04 in 3 pairs), at 19,400 jobs/s"
    assert told["processor time of that registry and those controllers meanwhile"] == "2.5 % of a core in all (2 to 3)"
    assert told["a change of the cluster view until the last of 50 simulated nodes knows"] == (
        "p50 30 ms, p99 90 ms, most 0.12 s of 200 changes; of it, coordination's own write p50 3 ms, p99 9 ms"
    )
    assert told[f"{servers.REST}processor time a second"] == "50 nodes: 1 and 0.5 ms"
    assert told[f"{servers.REST}bytes sent a second"] == "50 nodes: 20 and 10 bytes"


@pytest.mark.parametrize(
    "figures",
    [
        {"workers": {"same server": KILLED | {"p99_ms": 1000.1}}},
        {"gateways": GATEWAYS | {"failed": {"unreachable": 1}}},
        {"gateways": GATEWAYS | {"jobs_lost": 1}},
        {"gateways": GATEWAYS | {"p99_ms": 2000.1}},
        {"throughput": {"sqlite": RATES | {"ratio": SPREAD | {"median": 0.94}}}},
        {"view": {"50": VIEW | {"last_node": {"p50_ms": 30.0, "p99_ms": 101.0, "max_ms": 120.0}}}},
        {"view": {"9": VIEW, "200": VIEW | {"node_cpu_ms_per_second": 1.8}}},
        {"view": {"9": VIEW, "200": VIEW | {"controller_bytes_per_second_and_node": 26.0}}},
    ],
)
def test_a_goal_that_was_missed_is_told(monkeypatch, tmp_path, figures):
    told = reached(monkeypatch, tmp_path, figures)
    assert [text.endswith(": **not reached**") for text in told.values()].count(True) == 1
