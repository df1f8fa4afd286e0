"""Engines by URL, and the names of memory stores."""

from __future__ import annotations

import gc

import pytest

from callboard import errors
from callboard.jobs import engine as seam
from callboard.jobs import engines
from callboard.testing.conformance.jobs import bench


def put(engine: seam.Engine) -> None:
    assert bench.unit(engine, seam.Put(bench.job(), bench.NOW)) == [seam.Created()]


@pytest.mark.parametrize("url", ["", "nothing", "nothing:", "oracle://x", ":memory:", "Memory:"])
def test_a_url_without_an_engine_is_refused(url: str) -> None:
    with pytest.raises(errors.InvalidSetting, match="mariadb, memory, mysql, postgres, postgresql, sqlite"):
        engines.open(url)


def test_an_unnamed_memory_store_is_private() -> None:
    first, second = engines.open("memory:"), engines.open("memory:")
    put(first)
    assert (len(first.counts("main")), second.counts("main")) == (1, [])


def test_a_named_memory_store_is_shared_until_the_last_is_closed() -> None:
    first, second, other = engines.open("memory:shared-store"), engines.open("memory:shared-store"), engines.open("memory:other")
    put(first)
    assert len(second.counts("main")) == 1
    assert other.counts("main") == []
    first.close()
    third = engines.open("memory:shared-store")
    assert len(third.counts("main")) == 1
    second.close()
    third.close()
    gc.collect()
    assert engines.open("memory:shared-store").counts("main") == []


@pytest.mark.parametrize("url", ["memory:No", "memory://x", "memory:a b", "memory:-"])
def test_a_bad_name_is_refused(url: str) -> None:
    with pytest.raises(errors.InvalidSetting, match="memory:NAME"):
        engines.open(url)


def test_a_closed_memory_store_says_so() -> None:
    engine = engines.open("memory:")
    engine.close()
    for use in (lambda: engine.apply([]), engine.claimants, lambda: engine.get([])):
        with pytest.raises(errors.StoreUnavailable, match="closed"):
            use()


def test_an_unknown_operation_applies_nothing() -> None:
    class Juggle(seam.Op, frozen=True):
        pass

    engine = engines.open("memory:")
    with pytest.raises(errors.Unsupported, match="Juggle"):
        engine.apply([(seam.Put(bench.job(), bench.NOW),), (Juggle(),)])
    assert engine.domains() == []
