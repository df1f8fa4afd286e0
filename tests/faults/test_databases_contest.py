"""Claim, settle, cancel, retry, expire, all of the same few jobs at once, each process through another node of a cluster:
one order explains all answers, as if there were one store."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
import pytest

from callboard.databases import address
from callboard.jobs import engines
from callboard.kit import urls
from callboard.testing.conformance.jobs import bench
from callboard.testing.engines import galera as galeras
from callboard.testing.engines import servers
from callboard.testing.engines import zookeeper as zookeepers
from tests.faults import breaking, contest
from tests.faults.deployment import ROOT

JOBS = 5
CONTESTANTS = 3
START_SECONDS = 30.0
LENGTHS = [pytest.param(3, id="short"), pytest.param(60, id="minute", marks=pytest.mark.long)]

Telling = Callable[[str, object], None]


class Said(msgspec.Struct):
    """What a contestant wrote at its end."""

    deeds: list[contest.Deed]
    errors: dict[str, int]


class Contest:
    """Contestants at work, and what they said when it was over."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.deeds: list[contest.Deed] = []
        self.errors: Counter[str] = Counter()
        self.contestants: list[subprocess.Popen[bytes]] = []


@contextlib.asynccontextmanager
async def held(urls: Sequence[str], seconds: float) -> AsyncIterator[Contest]:
    """Let a contestant work at each URL; the contest is over when this is left."""
    jobs = [bench.job(max_attempts=1) for _ in range(JOBS)]
    store = engines.open(urls[0])
    store.apply([(bench.seam.Put(job, bench.NOW),) for job in jobs])
    store.close()
    names = [f"contestant-{number:05}" for number in range(len(urls))]
    ids = [job.id.hex() for job in jobs]
    made = [
        _begun(url, name, str(seconds), str(number), ",".join({*names} - {name}), *ids)
        for number, (url, name) in enumerate(zip(urls, names, strict=True))
    ]
    told = Contest(seconds)
    told.contestants = made
    try:
        for each in made:
            assert each.stdout and await asyncio.wait_for(asyncio.to_thread(each.stdout.readline), START_SECONDS) == b"ready\n"
        for each in made:
            assert each.stdin
            each.stdin.write(b"go\n")
            each.stdin.flush()
        yield told
        ended = await asyncio.gather(*(asyncio.to_thread(each.communicate, timeout=seconds + START_SECONDS) for each in made))
        for said in [msgspec.json.decode(out, type=Said) for out, _ in ended]:
            told.deeds += said.deeds
            told.errors.update(said.errors)
    finally:
        for each in made:
            each.kill()
            each.communicate()


def _begun(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.faults.contestant", *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)


def judged(told: Contest, what: str, record_property: Telling) -> None:
    """No job's history is without an order that explains it; tell how much was done."""
    verbs = Counter(deed.verb for deed in told.deeds if deed.verb != "expire" or not deed.answer or deed.answer[0] != "none")
    figure = f"{what}: {verbs.total()} operations in {told.seconds:g} s, {dict(verbs)}, errors {dict(told.errors)}"
    record_property("figure", figure)
    print(figure)
    assert not contest.faults(told.deeds)
    assert verbs["claim"] and verbs["succeed"] and verbs["retry"] and verbs["cancel"]
    assert verbs.total() > 20 * told.seconds


@pytest.mark.parametrize("seconds", LENGTHS)
@pytest.mark.parametrize(
    "product", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in ("mariadb", "postgresql", "zookeeper")]
)
async def test_one_server(request: pytest.FixtureRequest, product: str, seconds: float, record_property: Telling):
    url = breaking.made(product, request.getfixturevalue).url
    async with held([url] * CONTESTANTS, seconds) as told:
        pass
    judged(told, product, record_property)
    assert not told.errors


@pytest.mark.parametrize("seconds", LENGTHS)
async def test_each_through_another_node(galera: galeras.Cluster, galera_database: str, seconds: float, record_property: Telling):
    before = certification(galera)
    async with held(turned(galera_database), seconds) as told:
        pass
    commits, failures = (now - then for now, then in zip(certification(galera), before, strict=True))
    judged(told, f"galera, {failures} certification failures and aborts of {commits} commits", record_property)


@pytest.mark.long
@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_a_server_of_an_ensemble_is_broken_meanwhile(zookeeper: zookeepers.Ensemble, how: str, record_property: Telling):
    """Each contestant has a connection of its own, wherever it leads by then; each server leads or follows when it is broken."""
    url = zookeeper.url(f"/contest-{time.time_ns()}")
    async with held([url] * CONTESTANTS, 30) as told:
        for member in zookeeper.members:
            await asyncio.sleep(2)
            await asyncio.to_thread(getattr(member, how))
            await asyncio.sleep(3)
            member.cont()
            await asyncio.to_thread(zookeeper.start)
    judged(told, f"zookeeper, each server in turn {how}", record_property)


@pytest.mark.long
async def test_contestants_are_frozen_meanwhile(zookeeper: zookeepers.Ensemble, record_property: Telling):
    """Also for longer than their sessions last: they wake in the midst of a word, with a picture of the store from long ago."""
    seed = time.time_ns()
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with held([zookeeper.url(f"/contest-{time.time_ns()}")] * CONTESTANTS, 30) as told:
        for _ in range(12):
            frozen = chance.choice(told.contestants)
            await asyncio.sleep(chance.uniform(0, 0.5))
            frozen.send_signal(signal.SIGSTOP)
            await asyncio.sleep(chance.choice((0.1, 0.5, 2, 5)))
            frozen.send_signal(signal.SIGCONT)
    judged(told, "zookeeper, contestants frozen in turn", record_property)


@pytest.mark.long
@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_a_node_is_broken_meanwhile(galera: galeras.Cluster, galera_database: str, how: str, record_property: Telling):
    async with held(turned(galera_database), 30) as told:
        for member in galera.members:
            await asyncio.sleep(2)
            await asyncio.to_thread(getattr(member, how))
            await asyncio.sleep(3)
            await asyncio.to_thread(galera.mend)
    judged(told, f"galera, each node in turn {how}", record_property)


def turned(url: str) -> list[str]:
    """Return the URL with each of its hosts in front once."""
    hosts = [urls.written(host) for host in address.parsed(url).hosts]
    return [url.replace(",".join(hosts), ",".join(hosts[turn:] + hosts[:turn])) for turn in range(len(hosts))]


def certification(cluster: galeras.Cluster) -> tuple[int, int]:
    """Return the commits of all nodes, and how many transactions they gave up for those of others."""
    told: list[dict[str, Any]] = [
        servers.wait_for(member.status, f"{member.name} tells", START_SECONDS) for member in cluster.members
    ]
    commits = sum(int(each["wsrep_replicated"]) for each in told)
    return commits, sum(int(each["wsrep_local_cert_failures"]) + int(each["wsrep_local_bf_aborts"]) for each in told)
