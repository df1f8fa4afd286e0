"""The shipped suite of coordination on ZooKeeper: a real ensemble of three servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from callboard.testing.conformance.coordination import bench
from callboard.testing.conformance.coordination.suite import CoordinationSuite
from callboard.testing.engines import zookeeper as zookeepers
from tests.conformance import zookeeper_bench


class TestZooKeeper(CoordinationSuite):
    @pytest.fixture(autouse=True)
    def ensemble(self, zookeeper: zookeepers.Ensemble) -> None:
        self.zookeeper = zookeeper

    def bench(self, path: Path) -> bench.Bench:
        return zookeeper_bench.ZooKeeperBench(self.zookeeper)
