"""The store on ZooKeeper against a real ensemble: its log, its replicas, its limits, and connections that break."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from concurrent import futures

import msgspec
import pytest

from callboard import errors
from callboard.ensembles import address, client, requests
from callboard.jobs import engine as seam
from callboard.jobs import engines, model, queue, states
from callboard.jobs.engines.zookeeper import codec, log
from callboard.testing import severing
from callboard.testing.conformance.jobs.bench import NODE, NOW, OTHER, equal, job, settle, take, unit

ENTRY = b"/log/1/c-"
"""What each commit says."""
BIG = bytes(range(256)) * (model.MAX_PAYLOAD // 256)
EVER = 2 * NOW
_roots = itertools.count()


class Store:
    """A root of its own, and the engines that are open on it."""

    def __init__(self, zookeeper):
        self.zookeeper = zookeeper
        self.root = f"/store-{time.time_ns()}-{next(_roots)}"
        self._opened = []
        self._looking = None

    def open(self, hosts="", options=""):
        self._opened.append(engines.open(f"zookeeper://{hosts or self.zookeeper.hosts}{self.root}{options}"))
        return self._opened[-1]

    def look(self):
        """A client that looks at the nodes, as they are now."""
        if self._looking is None:
            self._looking = client.Client(address.parsed(self.zookeeper.url(self.root)))
            self._opened.append(self._looking)
            self._looking.start(10)
        self._looking.sync()
        return self._looking

    def names(self, *path):
        return sorted(self.look().children("/".join((self.root, *path))) or ())

    def close(self):
        for each in self._opened:
            each.close()


@pytest.fixture
def store(zookeeper):
    made = Store(zookeeper)
    yield made
    made.close()


def put(engine, *jobs):
    for result in engine.apply([(seam.Put(each, NOW),) for each in jobs]):
        equal(list(result), [seam.Created()])


def claim(engine, limit=1000, node=NODE, **fields):
    return unit(engine, seam.Claim(node, (take(**fields),), limit, NOW))[0].jobs


def complete(engine, *claimed, result=b"\x01"):
    for done in engine.apply([(settle(each, states.succeeded(each, result, NOW)),) for each in claimed]):
        equal(list(done), [seam.Settled(model.State.COMPLETED)])


def read(engine, of):
    return engine.get([of.key])[0]


def held(engine):
    """What a replica holds, as far as all replicas must agree once they have followed the log."""
    engine.counts("main")
    tables = engine._log.held
    rows = sorted(tables.rows.items(), key=lambda each: each[1].seq)
    return {
        "order": [key for key, _ in rows],
        "jobs": {key: msgspec.structs.replace(row.job, args=b"") for key, row in rows},
        "stamps": tables.stamps,
        "fences": {key: fences for key, fences in tables.fences.items() if fences},
        "documents": tables.documents,
        "renewed": tables.renewed,
        "numbers": {domain: numbers for domain, numbers in tables.numbers.items() if numbers},
    }


def history(one, other):
    """Let two engines do all that can be done, in turn."""
    jobs = [job(kind=f"app.k{i % 3}", tags=("blue",), args=bytes(i * 100), priority=i % 2) for i in range(20)]
    put(one, *jobs[::2])
    put(other, *jobs[1::2])
    kinds = ("app.k0", "app.k1", "app.k2")
    claimed = unit(one, seam.Claim(NODE, (take(*kinds),), 6, NOW))[0].jobs
    more = unit(other, seam.Claim(OTHER, (take(*kinds),), 6, NOW))[0].jobs
    one.apply([(settle(each, states.failed(each, NOW)),) for each in claimed[:2]])
    complete(one, *claimed[2:4], result=bytes(2000))
    unit(other, seam.Renew(OTHER, ((*more[0].key, 1, model.Progress(1, 2)),), NOW), seam.PutDocument("main", "a", 0, b"1"))
    unit(one, seam.Require("main", "b", 0), seam.Renew(NODE, (), NOW))
    unit(one, seam.PutDocument("main", "a", 1, None))
    unit(other, seam.Expire((NODE,), 10, NOW))
    other.apply([(seam.Renew(b"x" * 16, (), NOW),), (seam.Expire((b"x" * 16,), 10, NOW),)])
    unit(one, seam.Retry("main", claimed[2].id, NOW))
    unit(other, seam.Cancel("main", more[1].id, NOW))
    unit(other, seam.Purge("main", EVER, 0, EVER, 1))


def test_a_replica_that_followed_is_one_that_was_loaded(store):
    one, other, idle = store.open(), store.open(), store.open()
    history(one, other)
    late = held(store.open())
    for engine in (one, other, idle):
        equal(held(engine), late)
    assert idle._log.loads == 1


def test_who_loaded_a_job_and_changed_it_leaves_it_in_its_place(store):
    """Also among those of the same commit, and also for those who load after it."""
    writer, jobs = store.open(), [job() for _ in range(9)]
    put(writer, *jobs)
    late = store.open()
    for each in claim(late, 9)[::-2]:
        unit(late, seam.Release(each.domain, each.id, NODE, 1, NOW))
    for engine in (writer, late, store.open()):
        equal(held(engine)["order"], [each.key for each in jobs])
    equal([each.id for each in claim(store.open())], [each.id for each in jobs[::2]])


def test_own_commits_between_those_of_others_find_their_place(store):
    """Puts look at nothing before: each engine learns of the other's only afterwards."""
    one, other = store.open(), store.open()
    jobs = [job() for _ in range(30)]
    for number, each in enumerate(jobs):
        put((one, other)[number % 2], each)
    assert one._log._own
    wanted = [each.id for each in jobs]
    equal([each.id for each in claim(store.open(), 10)], wanted[:10])
    equal([each.id for each in claim(one, 10)], wanted[10:20])
    equal([each.id for each in claim(other, 10)], wanted[20:])
    equal(held(one), held(store.open()))


def test_the_log_is_kept_short_and_who_is_left_behind_loads_anew(store, monkeypatch):
    monkeypatch.setattr(log, "EPOCH_ENTRIES", 5)
    monkeypatch.setattr(log, "_SWEPT_AT_ONCE", 3)
    writer, reader, left = store.open(), store.open(), store.open()
    jobs = [job() for _ in range(60)]
    for number, each in enumerate(jobs, 1):
        put(writer, each)
        if number % 5 == 0:
            equal(sum(row.jobs for row in reader.counts("main")), number)
    equal(sum(row.jobs for row in left.counts("main")), len(jobs))
    assert (reader._log.loads, left._log.loads) == (1, 2)
    epochs = [int(name) for name in store.names("log")]
    assert max(epochs) >= 8 and len(epochs) <= log.KEPT + 3
    equal([each.id for each in claim(left)], [each.id for each in jobs])
    equal(held(writer), held(left))


def test_a_store_with_many_jobs_is_loaded(store, record_property):
    jobs = [job(queue=f"q{i % 3}") for i in range(5000)]
    put(store.open(), *jobs)
    began = time.process_time()
    engine = store.open()
    record_property("figure", f"ZooKeeper store loaded: {(time.process_time() - began) / len(jobs) * 1e6:.0f} us CPU a job")
    equal([each.id for each in claim(engine, queue="q1", limit=10)], [each.id for each in jobs[1:31:3]])


def test_many_that_claim_at_once_get_all_of_it(store):
    """Each ends what it has and claims again in one batch, from a common backlog."""
    jobs = [job() for _ in range(600)]
    put(store.open(), *jobs)

    def work(engine, node):
        mine, ends = [], []
        while True:
            *_, result = engine.apply([*ends, (seam.Claim(node, (take(),), 8, NOW),)])
            claimed = result[0].jobs
            if not claimed:
                return mine
            mine += [(each.id, each.fence) for each in claimed]
            ends = [(settle(each, states.succeeded(each, None, NOW)),) for each in claimed]

    with futures.ThreadPoolExecutor(4) as pool:
        works = [pool.submit(work, store.open(), bytes([number]) * 16) for number in range(4)]
        taken = [each for done in works for each in done.result()]
    equal(sorted(taken), sorted((each.id, 1) for each in jobs))
    equal({row.state: row.jobs for row in store.open().counts("main")}, {model.State.COMPLETED: 600})


@pytest.mark.parametrize("answered", [True, False])
def test_what_is_under_way_when_the_connection_breaks_is_applied_once(store, zookeeper, answered):
    """The server has done it and its answer is lost, or it never heard of it: the log tells which."""
    with severing.Proxy(zookeeper.members[0].port) as proxy:
        engine = store.open(f"127.0.0.1:{proxy.port}")

        def broken():
            proxy.cut_at(ENTRY, answered=answered)

        made = job(max_attempts=1)
        broken()
        put(engine, made, job(kind="app.other"))
        broken()
        (claimed,) = claim(engine)
        equal(claimed.fence, 1)
        broken()
        ended = states.failed(claimed, NOW)
        equal(engine.apply([(settle(claimed, ended),)]), [[seam.Settled(model.State.DISCARDED)]])
        broken()
        equal(unit(engine, seam.PutDocument("main", "a", 0, b"1")), [seam.Stored(1)])
        assert proxy.cuts == 4
        equal(engine.attempt_errors(*made.key), [ended.error])
        equal(len(store.names("log", "1")), 4)
        equal(held(engine), held(store.open()))


def test_a_leader_that_is_killed_loses_nothing(store, zookeeper):
    engine, jobs = store.open(), [job() for _ in range(200)]
    killed = threading.Thread(target=zookeeper.leader().kill)
    for number, each in enumerate(jobs):
        if number == 50:
            killed.start()
        put(engine, each)
    killed.join()
    equal([each.id for each in claim(engine)], [each.id for each in jobs])


def test_a_unit_of_almost_a_megabyte_is_written_and_a_greater_one_refused(store):
    engine = store.open()
    unit(engine, seam.PutDocument("main", "big", 0, bytes(950_000)))
    equal(len(engine.document("main", "big").body), 950_000)
    with pytest.raises(errors.TooLarge) as raised:
        engine.apply([(seam.Put(job(), NOW),), (seam.PutDocument("main", "big", 1, bytes(1_000_000)),)])
    assert raised.value.data["limit"] == requests.MOST_BYTES
    equal((engine.domains(), engine.counts("main")), (["main"], []))


async def test_only_who_wrote_too_much_hears_of_it(store):
    jobs = queue.Queue(store.open())
    await jobs.start()
    mine = job(now=jobs.clock.now() // 1000 * 1000)
    created, raised = await asyncio.gather(
        jobs.submit([mine]), jobs.put_document("main", "big", 0, bytes(1_000_000)), return_exceptions=True
    )
    await jobs.stop()
    equal(created, [seam.Created()])
    assert isinstance(raised, errors.TooLarge)


def test_a_batch_of_many_megabytes_is_cut_between_units(store):
    engine = store.open()
    jobs = [job(args=BIG) for _ in range(12)]
    put(engine, *jobs)
    assert len(store.names("log", "1")) >= 4
    equal(claim(store.open(), 12), [states.claimed(each, NODE, NOW) for each in jobs])


def test_what_is_big_lies_beside_its_job_and_goes_with_it(store):
    one, other = store.open(), store.open()
    made = job(args=BIG)
    put(one, made)
    (claimed,) = claim(other)
    complete(other, claimed, result=BIG[::-1])
    done = read(one, made)
    equal((done.args, done.result), (BIG, BIG[::-1]))
    unit(one, seam.Retry("main", made.id, NOW))
    equal((read(other, made).args, read(other, made).result), (BIG, None))
    (again,) = claim(other)
    equal(again.args, BIG)
    one.apply([(settle(again, states.discarded(again, NOW)),)])
    assert sum(len(store.names("parts", bucket)) for bucket in store.names("parts")) == 2
    unit(other, seam.Purge("main", EVER, 0, EVER, 10))
    assert not any(store.names(above, bucket) for above in ("parts", "jobs") for bucket in store.names(above))


def test_a_retried_job_has_its_arguments_again(store):
    """Nobody holds those of a finished job."""
    one, other = store.open(), store.open()
    jobs = [job(args=bytes([i]) * 9) for i in range(5)]
    put(one, *jobs)
    complete(one, *claim(one))
    late = store.open()
    other.apply([(seam.Retry("main", each.id, NOW),) for each in jobs])
    for engine in (one, late, other):
        (claimed,) = claim(engine, 1)
        equal(
            claimed,
            states.claimed(
                states.retried(
                    msgspec.structs.replace(read(one, claimed), state=model.State.COMPLETED, run=1, node=None, fence=1), NOW
                ),
                NODE,
                NOW,
            ),
        )


def test_a_full_store_takes_no_more_until_jobs_are_finished(store):
    one, other = store.open(options="?backlog=10"), store.open(options="?backlog=10")
    results = one.apply([(seam.Put(job(), NOW),) for _ in range(12)])
    equal(results[10:], [seam.Refused(0, seam.Full(10))] * 2)
    equal(other.apply([(seam.Put(job(), NOW),)]), [seam.Refused(0, seam.Full(10))])
    for _ in range(4):
        complete(one, *claim(one))
        other.apply([(seam.Put(job(), NOW),) for _ in range(12)])
    equal({row.state.word: row.jobs for row in one.counts("main")}, {"completed": 40})
    equal(one.apply([(seam.Put(job(), NOW),)]), [seam.Refused(0, seam.Full(10))])
    unit(other, seam.Purge("main", EVER, 0, EVER, 1))
    put(one, job())


@pytest.mark.parametrize("backlog", ["0", "-1", "many", "1000001"])
def test_a_backlog_is_a_number(backlog):
    with pytest.raises(errors.InvalidSetting, match="backlog"):
        engines.open(f"zookeeper://127.0.0.1:1/x?backlog={backlog}")


def test_a_root_of_others_is_left_alone(store):
    look = store.look()
    look.commit([requests.create(store.root, b""), requests.create(f"{store.root}/brokers", b"")])
    with pytest.raises(errors.StoreForeign, match="'brokers'"):
        store.open()
    look.commit([requests.create(f"{store.root}/head", b"not ours")])
    with pytest.raises(errors.StoreForeign, match="root of its own"):
        store.open()


def test_coordination_may_have_the_same_root(store):
    look = store.look()
    look.commit([requests.create(store.root, b""), requests.create(f"{store.root}/sessions", b"")])
    put(store.open(), job())


def test_a_newer_store_is_not_touched(store):
    store.open()
    head = codec.encode(codec.Head(codec.FORMAT + 1, codec.FORMAT + 1, 1))
    store.look().commit([requests.write(f"{store.root}/head", head)])
    with pytest.raises(errors.StoreTooNew):
        store.open()


def test_a_store_with_a_login_is_closed_to_others(store, zookeeper):
    engine = store.open(f"anna:secret@{zookeeper.hosts}")
    put(engine, job(args=BIG))
    for login in ("", "anna:wrong@", "bert:secret@"):
        with pytest.raises(errors.StoreRefused) as raised:
            store.open(f"{login}{zookeeper.hosts}")
        assert "secret" not in str(raised.value) and "wrong" not in str(raised.value)
    equal(len(claim(store.open(f"anna:secret@{zookeeper.hosts}"))), 1)


def test_a_store_is_made_once(store):
    """By many who come at once."""
    with futures.ThreadPoolExecutor(4) as pool:
        opened = [each.result() for each in [pool.submit(store.open) for _ in range(4)]]
    put(opened[0], job())
    assert all(sum(row.jobs for row in engine.counts("main")) == 1 for engine in opened)


def test_who_was_frozen_meanwhile_settles_nothing(store):
    """Its replica still says that the claim is its own; the versions of the nodes know better."""
    frozen, other = store.open(), store.open()
    put(frozen, job())
    (claimed,) = claim(frozen)
    unit(other, seam.Expire((NODE,), 10, NOW))
    (again,) = claim(other, node=OTHER)
    lost = seam.Refused(0, seam.Lost(model.State.RUNNING, 2, OTHER))
    equal(frozen.apply([(settle(claimed, states.succeeded(claimed, b"\x01", NOW), node=NODE),)]), [lost])
    equal(read(frozen, claimed), again)


def test_who_dies_with_more_than_one_transaction_takes_is_expired_whole(store):
    engine = store.open()
    words = {f"word {number}": "x" * 100 for number in range(30)}
    put(engine, *(job(meta=words) for _ in range(400)))
    for _ in range(4):
        assert len(claim(engine, 100)) == 100
    (expired,) = unit(engine, seam.Expire((NODE,), 500, NOW))
    equal((len(expired.jobs), len({each.id for each in expired.jobs})), (400, 400))
    equal(engine.claimants(), [])
    assert 0 < len(claim(engine, 400)) < 400, "a claim may take less than it was asked to"


def test_a_replica_that_is_wrong_is_made_anew(store):
    engine = store.open()
    put(engine, job())
    (claimed,) = claim(engine)
    engine._log.held.stamps[claimed.key] += 7
    complete(engine, claimed)
    assert engine._log.loads == 2


def test_a_document_that_was_never_written_guards_too(store):
    """Two who rely on it, and one who writes it."""
    one, other = store.open(), store.open()
    guard = seam.Require("main", "queues", 0)
    unit(one, guard, seam.Put(job(), NOW))
    unit(other, guard, seam.Put(job(), NOW))
    equal(unit(one, seam.PutDocument("main", "queues", 0, b"x")), [seam.Stored(1)])
    equal(other.apply([(guard, seam.Put(job(), NOW))]), [seam.Refused(0, seam.Changed(1))])
    equal((one.domains(), one.documents("main", "")), (["main"], [model.Document("main", "queues", 1, b"x")]))


@pytest.mark.long
def test_an_ensemble_that_is_away_is_said_and_comes_back(store, zookeeper):
    engine = store.open()
    put(engine, job())
    zookeeper.stop()
    with pytest.raises(errors.StoreUnavailable, match="majority"):
        engine.apply([(seam.Put(job(), NOW),)])
    zookeeper.start()
    put(engine, job())
    equal(sum(row.jobs for row in engine.counts("main")), 2)


def test_closed_is_closed(store):
    engine = store.open()
    engine.close()
    engine.close()
    for ask in (lambda: engine.apply([(seam.Put(job(), NOW),)]), lambda: engine.get([job().key]), lambda: engine.counts("main")):
        with pytest.raises(errors.StoreUnavailable):
            ask()
