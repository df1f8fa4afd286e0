"""The store on ZooKeeper at its edges: requests and answers that become too big, bad luck twice, another ground than it was."""

from __future__ import annotations

import functools
import shutil

import pytest

from callboard import errors
from callboard.ensembles import client, requests
from callboard.jobs import engine as seam
from callboard.jobs import model, states
from callboard.jobs.engines.zookeeper import log
from callboard.testing import severing
from callboard.testing.conformance.jobs.bench import NODE, NOW, equal, job, unit
from callboard.testing.engines import servers
from callboard.testing.engines import zookeeper as zookeepers
from tests.conftest import INSTALL
from tests.engines import test_zookeeper_store as stores

pytestmark = pytest.mark.xdist_group("zookeeper")
LONGEST = ".".join(["x" * 63] * 3 + ["y" * 61])
"""As a domain may be called."""
WORDS = {f"word {number}": "x" * 200 for number in range(16)}


@pytest.fixture
def store(zookeeper):
    made = stores.Store(zookeeper)
    yield made
    made.close()


def running(**fields):
    return states.claimed(job(**fields), NODE, NOW)


def numbers(engine, domain="main"):
    return {row.state.word: row.jobs for row in engine.counts(domain)}


def let_in(engine):
    try:
        return numbers(engine)
    except errors.StoreUnavailable:
        return None


def wipe(look, path):
    for name in look.children(path) or ():
        wipe(look, f"{path}/{name}")
    look.commit([requests.delete(path)])


# Sizes


def test_long_names_are_counted(store):
    """Ended, retried and purged, many at once: each transaction stays below what servers take."""
    engine = store.open()
    jobs = [running(domain=LONGEST, args=bytes(600)) for _ in range(1000)]
    stores.put(engine, *jobs)
    stores.complete(engine, *jobs, result=bytes(600))
    again = [seam.Became(model.State.AVAILABLE)]
    equal(engine.apply([(seam.Retry(LONGEST, each.id, NOW),) for each in jobs]), [again] * 1000)
    engine.apply([(seam.Cancel(LONGEST, each.id, NOW),) for each in jobs])
    equal(unit(engine, seam.Purge(LONGEST, stores.EVER, 0, stores.EVER, 2000)), [seam.Purged(1000)])
    assert not any(store.names("parts", bucket) for bucket in store.names("parts"))


@pytest.mark.parametrize(
    "path", ["", "..", "a/../b", "\0", "a b%2F", pytest.param("\N{GRINNING FACE}" * 3000, id="long and not of one byte each")]
)
def test_documents_have_any_path(store, path):
    one, other = store.open(), store.open()
    unit(one, seam.PutDocument("main", path, 0, b"1"))
    equal(other.documents("main", path), [model.Document("main", path, 1, b"1")])
    made = one.apply([(seam.PutDocument("main", f"{path}{number}", 0, b""),) for number in range(100)])
    equal(made, [[seam.Stored(1)]] * 100)


def test_a_node_renews_more_than_one_transaction_takes(store):
    engine = store.open()
    jobs = [running(meta=WORDS) for _ in range(400)]
    stores.put(engine, *jobs)
    unit(engine, seam.Cancel("main", jobs[-1].id, NOW))
    claims = tuple((*each.key, 1, model.Progress(1, 2)) for each in jobs)
    gone = ("main", job().id, 1)
    (renewed,) = unit(engine, seam.Renew(NODE, (*claims, (*gone, None)), NOW))
    equal(renewed, seam.Renewed((gone,), ((*jobs[-1].key, 1),)))
    equal(engine.claimants(), [(NODE, NOW)])
    assert all(each.progress == model.Progress(1, 2) for each in engine.get([each.key for each in jobs]))


def test_no_answer_is_much_greater_than_servers_are_made_for(store, monkeypatch):
    """Also not after many small ones."""
    engine = store.open()
    jobs = [job(args=stores.BIG) for _ in range(40)]
    small = [job(queue="small") for _ in range(500)]
    stores.put(engine, *jobs, *small)
    sizes = []
    understood = requests.Contents.deserialize

    def measured(answer, offset):
        sizes.append(len(answer))
        return understood(answer, offset)

    monkeypatch.setattr(requests.Contents, "deserialize", staticmethod(measured))
    equal(engine.get([each.key for each in small]), small)
    equal(engine.get([each.key for each in jobs]), jobs)
    equal(len(stores.claim(engine, 40)), 40)
    assert max(sizes) < 3_000_000


def test_what_is_expired_in_pieces_may_be_known_in_part(store, monkeypatch):
    engine = store.open()
    jobs = [running(meta=WORDS) for _ in range(400)]
    stores.put(engine, *jobs)
    commit, commits = engine._commit, []

    def once(tried, crowded):
        commits.append(tried)
        if len(commits) > 1:
            raise errors.StoreUnavailable("away")
        return commit(tried, crowded=crowded)

    with monkeypatch.context() as patched:
        patched.setattr(engine, "_commit", once)
        with pytest.raises(errors.StoreUnavailable) as raised:
            engine.apply([(seam.Expire((NODE,), 400, NOW),)])
    assert raised.value.data["unknown"]
    (rest,) = unit(engine, seam.Expire((NODE,), 400, NOW))
    assert 0 < len(rest.jobs) < 400
    equal(numbers(engine), {"available": 400})


# Bad luck


def test_a_lost_answer_is_found_though_the_connection_breaks_once_more(store, zookeeper, monkeypatch):
    """Just after its entry was read, and another one's before it."""
    with severing.Proxy(zookeeper.members[0].port) as proxy:
        engine, other = store.open(f"127.0.0.1:{proxy.port}"), store.open()
        stores.put(engine, job())
        stores.put(other, job())
        read, breaks = engine._client.read, []

        def broken(paths, *more):
            if f"{store.root}/log/1/c-0000000003" in paths and not breaks:
                breaks.append(paths)
                raise client.Interrupted("once more")
            return read(paths, *more)

        monkeypatch.setattr(engine._client, "read", broken)
        proxy.cut_at(stores.ENTRY, answered=True)
        stores.put(engine, job())
        equal(proxy.cuts, 1)
        equal(numbers(engine), {"available": 3})


def test_what_servers_refuse_for_reasons_of_their_own_is_an_error_of_the_store(store, monkeypatch):
    engine = store.open()

    def throttled(steps):
        raise client.Refused(-127, "ThrottledOp")

    monkeypatch.setattr(engine._client, "commit", throttled)
    with pytest.raises(errors.StoreUnavailable, match="ThrottledOp"):
        engine.apply([(seam.Put(job(), NOW),)])


def test_who_is_a_few_epochs_behind_follows(store, monkeypatch):
    monkeypatch.setattr(log, "EPOCH_ENTRIES", 4)
    writer, reader = store.open(), store.open()
    for number in range(1, 61):
        stores.put(writer, job())
        if number % (4 * log.KEPT) == 0:
            equal(numbers(reader), {"available": number})
    equal(reader._log.loads, 1)


# Another ground


def test_who_comes_while_the_store_is_made_finds_it_made(store, monkeypatch):
    children, made = client.Client.children, []

    def meanwhile(of, path):
        if not made:
            made.append(path)
            stores.put(store.open(), job())
        return children(of, path)

    monkeypatch.setattr(client.Client, "children", meanwhile)
    equal(numbers(store.open()), {"available": 1})


def test_a_store_that_was_deleted_is_missed_and_one_made_anew_is_loaded(store):
    old, reading = store.open(), store.open()
    stores.put(old, *(job() for _ in range(5)))
    wipe(store.look(), store.root)
    for ask in (lambda: old.apply([(seam.Put(job(), NOW),)]), lambda: reading.counts("main")):
        with pytest.raises(errors.StoreForeign, match="gone"):
            ask()
    new = store.open()
    stores.put(new, job())
    equal(numbers(reading), {"available": 1})
    stores.put(old, job())
    equal([numbers(engine) for engine in (old, reading, new)], [{"available": 2}] * 3)


def test_a_store_without_its_log_is_corrupt(store):
    engine = store.open()
    wipe(store.look(), f"{store.root}/log/1")
    for ask in (lambda: engine.apply([(seam.Put(job(), NOW),)]), store.open):
        with pytest.raises(errors.StoreCorrupt, match="log/1"):
            ask()


def test_a_node_that_somebody_wrote_is_corrupt(store):
    made = job()
    stores.put(store.open(), made)
    (bucket,) = (bucket for bucket in store.names("jobs") if store.names("jobs", bucket))
    (name,) = store.names("jobs", bucket)
    store.look().commit([requests.write(f"{store.root}/jobs/{bucket}/{name}", b"hello")])
    with pytest.raises(errors.StoreCorrupt):
        store.open()


@pytest.mark.long
def test_a_store_that_was_restored_is_loaded():
    """From an older copy of the servers' data, under running processes: they go on with what there is."""
    if reason := zookeepers.installed():
        pytest.skip(f"needs ZooKeeper ({reason}): {INSTALL}")
    with zookeepers.Ensemble(1) as ensemble:
        store = stores.Store(ensemble)
        old, reading = store.open(), store.open()
        stores.put(old, *(job() for _ in range(5)))
        (member,) = ensemble.members
        data = member.settings.parent / "data-1"
        member.kill()
        shutil.copytree(data, data.parent / "copy")
        ensemble.start()
        for _ in range(5):
            stores.put(store.open(), job())
        equal([numbers(engine) for engine in (old, reading)], [{"available": 10}] * 2)
        member.kill()
        shutil.rmtree(data)
        shutil.copytree(data.parent / "copy", data)
        ensemble.start()
        new = store.open()
        for _ in range(50):  # Until the ensemble has done more than the others have seen: it does not let them in before.
            stores.put(new, job())
        for engine in (old, reading):
            equal(servers.wait_for(functools.partial(let_in, engine), "it is let in", 20), {"available": 55})
        store.close()
