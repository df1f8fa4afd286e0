"""The shipped suite on a real ensemble of ZooKeeper: a root of its own for each promise. And what it says of broken engines."""

from __future__ import annotations

import itertools

import pytest

from callboard import errors
from callboard.ensembles import requests
from callboard.jobs.engines import zookeeper as zookeeper_store
from callboard.jobs.engines.zookeeper import engine
from callboard.testing.conformance.jobs import bench, sharing
from callboard.testing.conformance.jobs.suite import JobEngineSuite

_numbers = itertools.count()
TRIES = 20


class TestZooKeeper(JobEngineSuite):
    @pytest.fixture
    def store(self, zookeeper):
        return zookeeper.url(f"/jobs/promise-{next(_numbers)}")


def opener(zookeeper, root):
    return lambda: zookeeper_store.open(zookeeper.url(root))


def test_an_engine_that_does_not_follow_is_caught(zookeeper, monkeypatch):
    """It looks at the log when it is opened, never again."""
    monkeypatch.setattr(engine.ZooKeeperEngine, "_refresh", lambda self, *, sync: None)
    with bench.Bench(opener(zookeeper, "/jobs/deaf")) as ground, pytest.raises(AssertionError):
        sharing.what_one_engine_applied_the_others_read.run(ground)


def test_an_engine_that_writes_without_versions_is_caught(zookeeper, monkeypatch):
    """It believes its replica, and so claims what somebody else has claimed a moment ago."""
    write = requests.write
    monkeypatch.setattr(requests, "write", lambda path, content, version: write(path, content))
    with pytest.raises((AssertionError, errors.StoreUnavailable)):
        for number in range(TRIES):  # It takes two who claim at the very same time.
            with bench.Bench(opener(zookeeper, f"/jobs/unguarded-{number}")) as ground:
                sharing.engines_that_claim_at_once_share_without_overlap.run(ground)
