"""Random units and questions to the memory engine and to each durable engine: both must say the same, and hold the same.

Operations are drawn as words (which job, whether by its owner, how it ends) and made real with what the memory engine
holds at that moment, so that most guards hold and some do not.
"""

from __future__ import annotations

import itertools
import tempfile
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from hypothesis import settings, stateful
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from callboard.jobs import engine as seam
from callboard.jobs import engines, model, states
from callboard.jobs.engines import memory, sqlite
from callboard.jobs.model import State
from callboard.kit import clock
from callboard.testing.conformance.jobs import bench
from tests.conformance import emptying

DOMAINS = ("main", "acme", "team.acme")
QUEUES = ("default", "images")
KINDS = ("app.a", "app.b")
NODES = (b"a" * 16, b"b" * 16)
PATHS = ("a", "a/b", "b")
JOBS = 10
HOUR = 3600 * clock.SECOND
ALL_PAIRS = tuple((domain, queue) for domain in DOMAINS for queue in QUEUES)
CANCELLABLE = {*model.WAITING, State.RUNNING}

Make = Callable[["World"], seam.Op]

numbers = st.integers(0, JOBS - 1)
nodes = st.sampled_from(NODES)
right = st.sampled_from([True, True, True, False])
lanes = st.sampled_from(list(model.Lane))
some_kinds = st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from([(1,), (2,), (1, 2)])), max_size=3).map(tuple)
all_kinds = st.just(tuple((kind, (1, 2)) for kind in KINDS))
domains = st.sampled_from(DOMAINS)
queues = st.sampled_from(QUEUES)
limits = st.sampled_from([0, 1, 2, 50])
takes = st.lists(st.builds(seam.Take, domains, queues, lanes, some_kinds | all_kinds, limits), max_size=4).map(tuple)
everywhere = tuple(
    seam.Take(domain, queue, lane, tuple((kind, (1, 2)) for kind in KINDS), 50)
    for domain in DOMAINS
    for queue in QUEUES
    for lane in model.Lane
)
ENDS: dict[str, Callable[[model.Job, int], states.Ended]] = {
    "success": lambda job, now: states.succeeded(job, b"\x01", now),
    "failure": lambda job, now: states.failed(job, now, message="m", traceback="t"),
    "discard": lambda job, now: states.discarded(job, now),
    "later": lambda job, now: states.postponed(job, clock.SECOND, now),
    "stop": lambda job, now: states.stopped(job, now),
}


class World:
    """The time, and what the operations being made may know."""

    def __init__(self, ground: bench.Bench) -> None:
        self.now = bench.NOW
        self.ground = ground
        self.ids = [bench.new_id() for _ in range(JOBS // 2)]

    def key(self, number: int) -> tuple[str, bytes]:
        return DOMAINS[number % 3], self.ids[number // 2]

    def job(self, number: int) -> model.Job:
        """Return the job of a number: as it is stored, or else as it would be put."""
        (stored,) = self.ground.engine.get([self.key(number)])
        return self.fresh(number, 0, 0) if stored is None else stored

    def one_in(self, number: int, among: Iterable[model.State]) -> model.Job:
        """Return a job that is in one of some states, if there is any; else whichever the number says."""
        stored = [job for job in self.ground.engine.get([self.key(each) for each in range(JOBS)]) if job and job.state in among]
        return stored[number % len(stored)] if stored and number % 4 else self.job(number)

    def fresh(self, number: int, variant: int, delay: int) -> model.Job:
        domain, id = self.key(number)
        return bench.job(
            id=id,
            domain=domain,
            kind=KINDS[number % 2],
            queue=QUEUES[number // 3 % 2],
            lane=model.Lane(1 + number // 5),
            version=1 + number // 4 % 2,
            priority=number % 3,
            digest=bytes([variant]) * 16,
            tags=("blue", "red")[: number % 4],
            meta={"m": "x"} if number % 2 else {},
            max_attempts=1 + number % 3,
            timeout=None if number % 2 else 5,
            now=self.now,
            delay=delay,
        )

    def owner(self, job: model.Job, by_owner: bool) -> dict[str, Any]:
        if by_owner:
            return {"node": job.node or NODES[0], "fence": job.fence}
        return {"node": NODES[1], "fence": job.fence} if job.node == NODES[0] else {"node": NODES[0], "fence": job.fence + 1}


def put(number: int, variant: int, delay: int) -> Make:
    return lambda world: seam.Put(world.fresh(number, variant, delay), world.now)


def put_claimed(number: int, variant: int, node: bytes) -> Make:
    return lambda world: seam.Put(states.claimed(world.fresh(number, variant, 0), node, world.now), world.now)


def claim(node: bytes, wanted: tuple[seam.Take, ...], limit: int) -> Make:
    return lambda world: seam.Claim(node, wanted, limit, world.now)


def settle(number: int, end: str, by_owner: bool) -> Make:
    def make(world: World) -> seam.Op:
        job = world.one_in(number, {State.RUNNING})
        return bench.settle(job, ENDS[end](job, world.now), **world.owner(job, by_owner))

    return make


def release(number: int, by_owner: bool) -> Make:
    def make(world: World) -> seam.Op:
        job = world.one_in(number, {State.RUNNING})
        return seam.Release(*job.key, now=world.now, **world.owner(job, by_owner))

    return make


def renew(node: bytes, renewed: list[int], progress: model.Progress | None) -> Make:
    def make(world: World) -> seam.Op:
        jobs = [world.one_in(number, {State.RUNNING}) for number in renewed]
        return seam.Renew(node, tuple((*job.key, job.fence, progress) for job in jobs), world.now)

    return make


def cancel(number: int) -> Make:
    return lambda world: seam.Cancel(*world.one_in(number, CANCELLABLE).key, world.now)


def retry(number: int) -> Make:
    return lambda world: seam.Retry(*world.one_in(number, model.TERMINAL).key, world.now)


def promote(wanted: tuple[tuple[str, str], ...], limit: int) -> Make:
    return lambda world: seam.Promote(wanted, limit, world.now)


def purge(domain: str, age: int, keep: int, spare: int, limit: int) -> Make:
    return lambda world: seam.Purge(domain, world.now - age, keep, world.now - spare, limit)


def document(kind: type[seam.Op], domain: str, path: str, off: int, *body: bytes | None) -> Make:
    return lambda world: kind(domain, path, max(world.ground.engine.document(domain, path).version + off, 0), *body)


ages = st.sampled_from([0, 1, clock.SECOND, HOUR])
paths = st.sampled_from(PATHS)
off = st.sampled_from([0, 0, 0, 1, -1])
pairs = st.lists(st.tuples(domains, queues), max_size=4).map(tuple)
puts = st.builds(put, numbers, st.sampled_from([0, 0, 0, 1]), st.sampled_from([0, 0, 0, 1, 100]))
puts_claimed = st.builds(put_claimed, numbers, st.sampled_from([0, 0, 0, 1]), nodes)
settles = st.builds(settle, numbers, st.sampled_from([*ENDS, "failure", "failure"]), right)
claims = st.builds(claim, nodes, takes | st.just(everywhere), st.sampled_from([0, 2, 50]))
operations: st.SearchStrategy[Make] = st.one_of(
    puts,
    puts_claimed,
    claims,
    settles,
    settles,
    st.builds(release, numbers, right),
    st.builds(renew, nodes, st.lists(numbers, max_size=4, unique=True), st.sampled_from([None, model.Progress(1, 2, "ü")])),
    st.builds(cancel, numbers),
    st.builds(retry, numbers),
    st.lists(nodes, max_size=2).map(lambda dead: lambda world: seam.Expire(tuple(dead), 100, world.now)),
    st.builds(promote, pairs | st.just(ALL_PAIRS), st.sampled_from([0, 1, 50])),
    st.builds(purge, domains, ages, st.integers(0, 3), ages, st.sampled_from([1, 50])),
    st.builds(document, st.just(seam.Require), domains, paths, off),
    st.builds(document, st.just(seam.PutDocument), domains, paths, off, st.sampled_from([None, b"", b"x"])),
)
units = st.lists(operations, min_size=1, max_size=4) | operations.map(lambda one: [one])
bursts = st.one_of(*(st.lists(one.map(lambda made: [made]), min_size=4, max_size=10) for one in (puts | puts_claimed, settles)))
batches = st.one_of(*[st.lists(units, min_size=1, max_size=4)] * 3, bursts)
filters = st.builds(
    seam.Filter,
    domain=st.sampled_from([*DOMAINS, "nowhere"]),
    subtree=st.booleans(),
    states=st.none() | st.frozensets(st.sampled_from(list(model.State)), max_size=3),
    kind=st.none() | st.sampled_from(KINDS),
    queue=st.none() | st.sampled_from(QUEUES),
    tag=st.none() | st.sampled_from(["blue", "red", "none"]),
)


class EnginesAgree(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.left = bench.Bench(lambda: memory.open("memory:"))
        self.right = self.new_store()
        self.world = World(self.left)

    def new_store(self) -> bench.Bench:
        """Return the other engine, with nothing in its store."""
        folder = tempfile.TemporaryDirectory(prefix="callboard-agree-")
        weakref.finalize(self, folder.cleanup)
        return bench.Bench(lambda: sqlite.open(f"sqlite://{folder.name}/jobs.db"))

    def teardown(self) -> None:
        self.right.reopen()
        self.same_everything()
        self.left.__exit__(None, None, None)
        self.right.__exit__(None, None, None)

    @initialize()
    def begin_with_work(self) -> None:
        self.apply([[put_claimed(4, 0, NODES[1])]], 0)
        self.apply([[put(number, 0, number % 2)] for number in range(JOBS)], 0)
        self.apply([[claim(NODES[0], everywhere, 3)]], 0)

    @rule(drawn=batches, passed=st.sampled_from([0, 1, 1, 1, *[clock.SECOND] * 4, *[100 * clock.SECOND] * 2, HOUR]))
    def apply(self, drawn: list[list[Make]], passed: int) -> None:
        self.world.now += passed
        made = [tuple(make(self.world) for make in unit) for unit in drawn]
        bench.equal([_plain(one) for one in self.right.batch(made)], [_plain(one) for one in self.left.batch(made)])
        self.same_everything()

    @rule(filter=filters, page=st.sampled_from([1, 2, 3, 100]))
    def list_jobs(self, filter: seam.Filter, page: int) -> None:
        bench.equal(self.right.all(filter, page), self.left.all(filter, page))
        numbers = [ground.count(filter.domain, subtree=filter.subtree) for ground in (self.right, self.left)]
        bench.equal(*numbers)

    @rule(wanted=takes, ahead=ages)
    def poll(self, wanted: tuple[seam.Take, ...], ahead: int) -> None:
        now = self.world.now + ahead
        bench.equal(self.right.engine.ready(wanted, now), self.left.engine.ready(wanted, now))

    @rule()
    def reopen(self) -> None:
        self.right.reopen()

    def same_everything(self) -> None:
        bench.equal(self.right.everything(), self.left.everything())


def _plain(result: list[Any] | seam.Refused) -> object:
    """Return a unit's result with those orders that the seam does not promise made the same."""
    return result if isinstance(result, seam.Refused) else [_ordered(one) for one in result]


def _ordered(result: seam.Result) -> seam.Result:
    if isinstance(result, seam.Expired):
        return seam.Expired(sorted(result.jobs, key=lambda job: job.key))
    if isinstance(result, seam.Renewed):
        return msgspec.structs.replace(
            result, lost=tuple(sorted(result.lost)), cancel_requested=tuple(sorted(result.cancel_requested))
        )
    return result


TestEnginesAgree = EnginesAgree.TestCase
TestEnginesAgree.settings = settings(stateful_step_count=20, max_examples=settings().max_examples * 3 // 5)


def agrees(machine: type[EnginesAgree]) -> None:
    """Try a server: fewer examples, since each step is several round trips to it."""
    stateful.run_state_machine_as_test(
        machine, settings=settings(stateful_step_count=15, max_examples=settings().max_examples // 8)
    )


def database_agrees(url: str) -> None:
    class Databases(EnginesAgree):
        def new_store(self) -> bench.Bench:
            emptying.emptied(url)
            return bench.Bench(lambda: engines.open(url))

    engines.open(url).close()
    agrees(Databases)


def test_mariadb_agrees(mariadb_database):
    database_agrees(mariadb_database)


def test_postgresql_agrees(postgresql_database):
    database_agrees(postgresql_database)


class Turns:
    """Two engines on one store, asked in turn: each must know what the other did."""

    def __init__(self, url: str) -> None:
        self._both = [engines.open(url), engines.open(url)]
        self._calls = itertools.count()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._both[next(self._calls) % 2], name)

    def close(self) -> None:
        for each in self._both:
            each.close()


def test_zookeeper_agrees(zookeeper):
    roots = itertools.count()

    class Replicas(EnginesAgree):
        def new_store(self) -> bench.Bench:
            url = zookeeper.url(f"/agree/{next(roots)}")
            return bench.Bench(lambda: Turns(url))

    agrees(Replicas)
