"""Nodes for tests of the wire."""

import pytest

from tests.unit.rpc import nodes as kit


@pytest.fixture
async def nodes():
    made = kit.Nodes()
    yield made
    await made.stop()
