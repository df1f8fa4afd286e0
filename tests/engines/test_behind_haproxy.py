"""A Galera cluster behind HAProxy in TCP mode: one address, and what was acknowledged is kept when its server dies or hangs."""

from __future__ import annotations

import time

import pytest

from callboard import errors
from callboard.jobs import engines
from callboard.testing.conformance.jobs import bench
from callboard.testing.engines import haproxy

PATIENCE_SECONDS = 20


@pytest.fixture
def proxy(galera):
    with haproxy.HaProxy([member.port for member in galera.members]) as proxy:
        yield proxy


@pytest.mark.parametrize("harm", ["kill", "freeze"])
def test_writing_goes_on_through_the_next_server(galera, proxy, harm, record_property):
    engine = engines.open(proxy.url(galera.database()))
    before = [put(engine, bench.job()) for _ in range(20)]
    getattr(galera.members[0], harm)()
    began = time.monotonic()
    after = [patiently(lambda made=made: put(engine, made), began) for made in [bench.job() for _ in range(20)]]
    record_property("figure", f"behind HAProxy: first put {after[0][1]:.2f} s after the active server's {harm}")
    made = before + [job for job, _ in after]
    claimed = bench.unit(engine, bench.seam.Claim(bench.NODE, (bench.take(),), 100, bench.NOW))[0].jobs
    assert sorted(job.id for job in claimed) == sorted(job.id for job in made)
    engine.close()


def put(engine, made):
    bench.unit(engine, bench.seam.Put(made, bench.NOW))
    return made


def patiently(act, began):
    """Act again while the store is away, as the queue does; return what came of it and when."""
    while True:
        try:
            return act(), time.monotonic() - began
        except errors.StoreUnavailable:
            assert time.monotonic() - began < PATIENCE_SECONDS
