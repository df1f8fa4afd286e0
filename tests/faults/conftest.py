"""What the fault tests share: a deployment that leaves nothing running, and figures that are told beside their bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.faults import breaking, naming
from tests.faults.deployment import Deployment, Eventually

Measured = Callable[[str, float, float], None]
"""Tell how many seconds something took, and fail over the bound. Bounds are loose: machines that run tests are busy ones."""


@pytest.fixture
def store(request: pytest.FixtureRequest) -> str | None:
    """The URL of the deployment's store, see `breaking.stores`; None: a file in its data directory."""
    name = getattr(request, "param", None)
    return None if name is None else breaking.made(name, request.getfixturevalue).url


@pytest.fixture
def victim(request: pytest.FixtureRequest) -> breaking.Victim:
    """The server to be broken: see `breaking.victims`."""
    return breaking.made(request.param, request.getfixturevalue)


@pytest.fixture
async def deployment(data: Path, tmp_path: Path, eventually: Eventually, store: str | None) -> AsyncIterator[Deployment]:
    made = Deployment(data, tmp_path, eventually, store)
    try:
        yield made
    finally:
        await made.close()
        made.sweep()


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Measured:
    def tell(what: str, seconds: float, bound: float) -> None:
        figure = f"{what}: {seconds:.2f} s (bound {bound:g} s)"
        record_property("figure", figure)
        print(figure)
        assert seconds < bound, figure

    return tell


@pytest.fixture(
    scope="session",
    params=[
        pytest.param("local", marks=pytest.mark.xdist_group("faults-of-names")),
        pytest.param("zookeeper", marks=pytest.mark.xdist_group("zookeeper")),
    ],
)
def coordination(request: pytest.FixtureRequest) -> str:
    """What a deployment of named services is coordinated by; those by ZooKeeper share one ensemble."""
    return str(request.param)


@pytest.fixture(scope="session")
def shared_named(
    request: pytest.FixtureRequest, coordination: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[naming.Named]:
    """The one deployment by that coordination, started by the first test."""
    notes = tmp_path_factory.mktemp("named")
    url = request.getfixturevalue("private_zookeeper").url(f"/{notes.name}") if coordination == "zookeeper" else None
    made = naming.Named(notes / "data", notes, url)
    try:
        yield made
    finally:
        made.sweep()


@pytest.fixture
async def named(shared_named: naming.Named, eventually: Eventually) -> AsyncIterator[naming.Named]:
    """A deployment of named services in which everybody lives, and is in reach for this test's loop."""
    async with shared_named.used(eventually):
        yield shared_named
