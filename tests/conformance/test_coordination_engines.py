"""The shipped suite on the engines of coordination that need nothing but this machine."""

from __future__ import annotations

from pathlib import Path

import uvloop

from callboard.testing.conformance.coordination import bench, memory_bench
from callboard.testing.conformance.coordination.suite import CoordinationSuite

LOCAL = (bench.PROCESSES, bench.SUDDEN)


class TestMemory(CoordinationSuite):
    def bench(self, path: Path) -> bench.Bench:
        return memory_bench.MemoryBench()


class TestMemoryOnUvloop(TestMemory):
    new_loop = staticmethod(uvloop.new_event_loop)


class TestLocal(CoordinationSuite):
    def bench(self, path: Path) -> bench.Bench:
        return bench.Bench(f"local://{path}/coordination", session_seconds=0.6, abilities=LOCAL)


class TestLocalOnUvloop(TestLocal):
    new_loop = staticmethod(uvloop.new_event_loop)
