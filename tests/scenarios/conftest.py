"""`pytest tests/scenarios --seed N` plays one seed of the simulation, shows what its nodes logged, and nothing else."""

from __future__ import annotations

import pytest

from tests.scenarios import test_simulation


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="play this seed of the simulation again")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the seeds to play to the tests that want them, some at a time, so that processes can share them."""
    if "seeds" in metafunc.fixturenames:
        seed = metafunc.config.getoption("--seed", default=None)
        long = any(mark.name == "long" for mark in metafunc.definition.iter_markers())
        blocks = [range(seed, seed + 1)] if seed is not None else test_simulation.blocks(long)
        metafunc.parametrize("seeds", blocks, ids=lambda block: f"{block.start}-{block.stop - 1}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--seed", default=None) is not None:
        wanted = [item for item in items if item.nodeid.partition("[")[0].endswith("::test_the_rules_hold")]
        config.hook.pytest_deselected(items=[item for item in items if item not in wanted])
        items[:] = wanted
