"""What `bench-servers` starts, and what it makes of what it saw. Nothing here is timed."""

from __future__ import annotations

import pytest

from callboard import errors
from callboard.cli.bench import servers, servers_duties, servers_ground, servers_plot
from callboard.cluster import topology
from callboard.settings import fields

SHARED = servers_ground.Shared("mysql://a:b@127.0.0.1:1/bench", "zookeeper://127.0.0.1:1/bench-1")


def test_the_file_of_two_servers_is_one_that_an_operator_could_write():
    given = {name: {"worker.queues": ["default", name], "gateway.port": 8321} for name in servers_ground.NAMES}
    found = topology.parse(servers_ground.text(SHARED, given), servers_ground.FILE)
    assert found.together
    assert [found.server(name).address for name in servers_ground.NAMES] == ["127.0.0.2", "127.0.0.3"]
    assert found.server("beta").given["worker.queues"] == ("default", "beta")


def test_one_server_may_keep_everything_to_itself():
    found = topology.parse(servers_ground.text(servers_ground.Shared(), {"alpha": {"gateway.count": 0}}), servers_ground.FILE)
    assert not found.together


def test_everything_that_may_hold_an_office_beside_gateways_can_be_left_out():
    counts = {name for name in fields() if name.startswith(("registry.", "controller.")) and name.endswith("count")}
    assert set(servers_duties.KINDS) == counts


def test_a_plot_is_drawn_of_what_there_is(tmp_path):
    pytest.importorskip("matplotlib")
    found = {"workers": {"same server": {"seconds": [0.1, 0.2]}}, "throughput": {"sqlite": {"ratios": [0.9, 1.0]}}}
    gateways = {"gateways": {"slowest_ms_by_second": [1.0, 2.0], "killed_at": [1.0]}}
    view = {"view": {"50": {"node_cpu_ms_per_second": 1.0, "controller_cpu_ms_per_second_and_node": 0.5}}}
    for number, figures in enumerate(({}, found, gateways, view)):
        servers_plot.draw(figures, tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").stat().st_size > 1000


def test_what_is_unknown_is_refused():
    with pytest.raises(errors.InvalidInput, match="no such part: speed; there are workers, gateways, throughput, view"):
        servers.bench_servers(("speed",))
    with pytest.raises(errors.InvalidInput, match="too little"):
        servers.bench_servers(kills=0)
