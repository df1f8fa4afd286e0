"""The suite of the engines of coordination for pytest. The only module here that needs pytest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from callboard.testing.conformance import coordination
from callboard.testing.conformance.coordination import bench as benches


class CoordinationSuite:
    """Subclass it as `Test…` and say what a bench is; every promise becomes a test on a bench of its own.

    Tests run on an event loop of `new_loop`, each on a new one.
    """

    new_loop: ClassVar[Callable[[], asyncio.AbstractEventLoop]] = asyncio.new_event_loop

    def bench(self, path: Path) -> benches.Bench:
        """Return a bench: a site of its own, for which `path` is a new directory. It is entered on the loop of the test."""
        raise NotImplementedError

    @pytest.mark.parametrize("promise", coordination.ALL, ids=lambda promise: promise.name)
    def test_promise(self, promise: benches.Promise, tmp_path: Path) -> None:
        ground = self.bench(tmp_path)
        if promise.missing(ground):
            pytest.skip("promises that are not asked of an engine without the ability")
        self.keep(promise, ground)

    def keep(self, promise: benches.Promise, ground: benches.Bench) -> None:
        """Run one promise to its end; override it for another kind of loop."""
        with asyncio.Runner(loop_factory=type(self).new_loop) as runner:
            runner.run(coordination.keep(promise, lambda: ground))
