"""The shipped suite on the engines of coordination that need nothing but this machine."""

from __future__ import annotations

from pathlib import Path

import uvloop

from callboard.testing import virtual
from callboard.testing.conformance import coordination
from callboard.testing.conformance.coordination import bench as benches
from callboard.testing.conformance.coordination import memory_bench
from callboard.testing.conformance.coordination.suite import CoordinationSuite

LOCAL = (benches.PROCESSES, benches.SUDDEN)


class TestMemory(CoordinationSuite):
    def bench(self, path: Path) -> benches.Bench:
        return memory_bench.MemoryBench(session_seconds=1.5)


class TestMemoryOnVirtualTime(TestMemory):
    def bench(self, path: Path) -> benches.Bench:
        return memory_bench.MemoryBench(session_seconds=3.0)

    def keep(self, promise: benches.Promise, ground: benches.Bench) -> None:
        async def main(loop: virtual.VirtualLoop) -> None:
            ground.clock = virtual.VirtualClock(loop)
            await coordination.keep(promise, lambda: ground)

        virtual.run(main)


class TestLocal(CoordinationSuite):
    def bench(self, path: Path) -> benches.Bench:
        return benches.Bench(f"local://{path}/coordination", session_seconds=1.2, abilities=LOCAL)


class TestLocalOnUvloop(TestLocal):
    new_loop = staticmethod(uvloop.new_event_loop)
