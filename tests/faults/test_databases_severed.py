"""Connections to the database are broken at COMMIT, again and again: whoever does not know what became of it finds out."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator, Sequence

import pytest

from callboard.databases import address
from callboard.testing import severing
from tests.faults import breaking, load
from tests.faults.deployment import Deployment

EACH_SECONDS = 0.1
"""Between two cuts, about."""


@pytest.fixture
def proxies(victim: breaking.Victim) -> Iterator[list[severing.Proxy]]:
    """One before each server of the store."""
    with contextlib.ExitStack() as open_:
        yield [open_.enter_context(severing.Proxy(port)) for _, port in address.parsed(victim.url).hosts]


@pytest.fixture
def store(victim: breaking.Victim, proxies: Sequence[severing.Proxy]) -> str:
    """The victim's URL, by way of the proxies."""
    before = ",".join(address.written(host) for host in address.parsed(victim.url).hosts)
    return victim.url.replace(before, ",".join(f"127.0.0.1:{proxy.port}" for proxy in proxies))


@breaking.victims("mariadb", "postgresql", "galera-1")
@pytest.mark.parametrize("cuts", [pytest.param(15, id="some"), pytest.param(300, id="many", marks=pytest.mark.long)])
async def test_cut_at_commit(
    deployment: Deployment, proxies: Sequence[severing.Proxy], cuts: int, record_property: Callable[[str, object], None]
):
    """Before the server heard it, or after it did; with the server told of the end, or left with an open connection."""
    await deployment.up()
    nodes = deployment.nodes()
    await deployment.hold(4)
    chance = random.Random(cuts)
    async with load.on(deployment) as seen:
        while _cuts(proxies) < cuts:
            for proxy in proxies:
                proxy.cut_at(b"COMMIT", answered=chance.random() < 0.5, silently=chance.random() < 0.3)
            await deployment.eventually(_more(proxies), 20)
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
