"""Connections to the database are broken at COMMIT, again and again: whoever does not know what became of it finds out."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator, Sequence

import pytest

from callboard.testing import severing
from tests.faults import breaking, load
from tests.faults.deployment import Deployment

EACH_SECONDS = 0.1
"""Between two cuts, about."""
ENSEMBLES_COMMIT = b"/c-\0"
"""The end of the name that a store in an ensemble gives to the entry of its log that every commit makes."""


@pytest.fixture
def proxies(victim: breaking.Victim) -> Iterator[list[severing.Proxy]]:
    """One before each server of the store."""
    with contextlib.ExitStack() as open_:
        ports = [int(host.rpartition(":")[2]) for host in breaking.hosts(victim.url)]
        yield [open_.enter_context(severing.Proxy(port)) for port in ports]


@pytest.fixture
def store(victim: breaking.Victim, proxies: Sequence[severing.Proxy]) -> str:
    """The victim's URL, by way of the proxies."""
    before = ",".join(breaking.hosts(victim.url))
    return victim.url.replace(before, ",".join(f"127.0.0.1:{proxy.port}" for proxy in proxies))


@breaking.victims("mariadb", "postgresql", "galera-1", "zookeeper-all")
@pytest.mark.parametrize("cuts", [pytest.param(15, id="some"), pytest.param(300, id="many", marks=pytest.mark.long)])
async def test_cut_at_commit(
    deployment: Deployment,
    victim: breaking.Victim,
    proxies: Sequence[severing.Proxy],
    cuts: int,
    record_property: Callable[[str, object], None],
):
    """Before the server heard it, or after it did; with the server told of the end, or left with an open connection."""
    await deployment.up()
    nodes = deployment.nodes()
    await deployment.hold(4)
    chance = random.Random(cuts)
    word = ENSEMBLES_COMMIT if victim.name.startswith("zookeeper") else b"COMMIT"
    async with load.on(deployment) as seen:
        while _cuts(proxies) < cuts:
            more = _more(proxies)
            for proxy in proxies:
                proxy.cut_at(word, answered=chance.random() < 0.5, silently=chance.random() < 0.3)
            await deployment.eventually(more, 20)
            await asyncio.sleep(chance.uniform(0, 2 * EACH_SECONDS))
    record_property(
        "figure", f"{_cuts(proxies)} commits cut, {len(seen.acknowledged)} jobs acknowledged, {dict(seen.refused)} told"
    )
    assert deployment.nodes() == nodes
    await breaking.judged(deployment)


def _cuts(proxies: Sequence[severing.Proxy]) -> int:
    return sum(proxy.cuts for proxy in proxies)


def _more(proxies: Sequence[severing.Proxy]) -> Callable[[], bool]:
    before = _cuts(proxies)
    return lambda: _cuts(proxies) > before
