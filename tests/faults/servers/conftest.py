"""The one cluster that the tests here break, started by the first of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from callboard.testing.engines import galera as galeras
from callboard.testing.engines import mariadb as mariadbs
from callboard.testing.engines import places
from callboard.testing.engines import zookeeper as zookeepers
from tests.conftest import INSTALL
from tests.faults.deployment import Eventually
from tests.faults.servers.cluster import Cluster


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if reason := places.available() or zookeepers.installed() or galeras.installed() or mariadbs.driver():
        pytest.skip(f"needs network namespaces, ZooKeeper and Galera ({reason}): {INSTALL}")
    made = Cluster(tmp_path_factory.mktemp("fleet"))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
async def cluster(standing: Cluster, eventually: Eventually) -> AsyncIterator[Cluster]:
    """Three servers that all work, in reach of this test's loop. A test may break what it mends again."""
    async with standing.used(eventually):
        yield standing
