"""The suite of the job engines for pytest. The only module here that needs pytest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from callboard.jobs import engine as seam
from callboard.jobs import engines
from callboard.testing.conformance import jobs
from callboard.testing.conformance.jobs import bench


class JobEngineSuite:
    """Subclass it as `Test…`, give the `url`; every promise becomes a test on a store of its own.

    `{path}` in the URL is replaced by a new directory for each test. Override `open` for an engine without an entry point.
    """

    url: ClassVar[str]

    def open(self, url: str) -> seam.Engine:
        """Open an engine; called several times with one URL for one store."""
        return engines.open(url)

    @pytest.fixture
    def store(self, tmp_path: Path) -> str:
        """The URL of a new store. Override it where a directory is not enough."""
        return self.url.format(path=tmp_path)

    @pytest.fixture
    def ground(self, store: str) -> Iterator[bench.Bench]:
        with bench.Bench(lambda: self.open(store), store) as ground:
            yield ground

    @pytest.mark.parametrize("promise", jobs.ALL, ids=lambda promise: promise.name)
    def test_promise(self, promise: bench.Promise, ground: bench.Bench) -> None:
        missing = promise.missing(ground)
        if missing:
            pytest.skip(f"the {ground.engine.name} engine does not declare {missing}")
        promise.run(ground)
