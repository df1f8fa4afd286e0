"""Where stores on databases lost, kept waiting or told too much once: odd values, big batches, rivals at the wrong moment."""

from __future__ import annotations

import asyncio
import importlib
import socket
import threading
import time
from importlib import metadata
from urllib.parse import urlsplit, urlunsplit

import msgspec
import pytest
import sqlalchemy as sa

from callboard import databases, errors
from callboard.databases import address, line, lookout
from callboard.jobs import engine as seam
from callboard.jobs import engines, model, queue, states
from callboard.jobs.engines.sql import joined, texts, writes
from callboard.kit import uuid7
from callboard.roles.worker import endings
from callboard.testing import severing
from callboard.testing.engines import mariadb

NODE = b"n" * 16
TAKE = seam.Take("main", "default", model.Lane.LONG, (("a.b", (1,)),), 10_000)


@pytest.fixture(params=["mariadb", "postgresql"])
def server(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def url(server):
    return server.database()


@pytest.fixture
def opened():
    """Open engines that are closed after the test."""
    made = []

    def open(url):
        made.append(engines.open(url))
        return made[-1]

    yield open
    for each in made:
        each.close()


@pytest.fixture
def store(opened, url):
    return opened(url)


def now():
    return time.time_ns() // 1000


def job(**fields):
    at = now()
    given = {"id": uuid7.make(at), "kind": "a.b", "digest": b"d" * 16, "max_attempts": 3, "submitted_at": at, "run_at": at}
    return model.Job(**(given | fields))


def claimed(store, jobs=1, node=NODE):
    store.apply([(seam.Put(job(), now()),) for _ in range(jobs)])
    return claims(store, jobs, node)


def claims(store, limit, node=NODE):
    ((done,),) = store.apply([(seam.Claim(node, (TAKE,), limit, now()),)])
    return done.jobs


def settle(job, ended):
    return (seam.Settle(job.domain, job.id, job.node, job.fence, ended.outcome, ended.if_cancelled, ended.error),)


# Values


def test_a_delay_beyond_all_time_is_kept_as_a_long_one(store):
    (job,) = claimed(store)
    assert store.apply([settle(job, states.postponed(job, 10**30, now()))]) == [(seam.Settled(model.State.RETRYABLE),)]
    (kept,) = store.get([job.key])
    assert kept.run_at - now() > 300 * 366 * 86_400 * 10_000


def test_the_name_of_an_error_may_be_anything(store):
    given = claimed(store, 2)
    names = ["long" * 50_000, "lone \udc80 and nul \0"]
    ends = [states.failed(job, now(), type=name) for job, name in zip(given, names, strict=True)]
    assert store.apply([settle(*each) for each in zip(given, ends, strict=True)]) == [(seam.Settled(model.State.RETRYABLE),)] * 2
    kept = [store.attempt_errors(*job.key)[0].type for job in given]
    assert kept == [("long" * 50_000)[: states.MAX_TYPE], "lone \\udc80 and nul \0"]


def test_hundreds_of_long_tracebacks_at_once_are_kept(store):
    check_long_tracebacks(store, 400)


def test_a_small_packet_holds_long_tracebacks_and_many_results(opened):
    with mariadb.MariaDb("--max-allowed-packet=1M") as server:
        store = opened(server.database())
        check_long_tracebacks(store, 100)
        given = claimed(store, 500)[::-1]
        ends = [states.succeeded(job, bytes(990), now() + place) for place, job in enumerate(given)]
        done = store.apply([settle(*each) for each in zip(given, ends, strict=True)])
        assert done == [(seam.Settled(model.State.COMPLETED),)] * 500


def check_long_tracebacks(store, jobs):
    given = claimed(store, jobs)
    said = {"message": "\U0001f980" * model.MAX_MESSAGE, "traceback": "\0'\\\U0001f980" * model.MAX_TRACEBACK}
    ends = [states.failed(job, now(), **said) for job in given]
    done = store.apply([settle(*each) for each in zip(given, ends, strict=True)])
    assert done == [(seam.Settled(model.State.RETRYABLE),)] * jobs
    (kept,) = store.attempt_errors(*given[-1].key)
    assert kept.traceback == said["traceback"][-model.MAX_TRACEBACK :]


def test_rows_go_in_parts_by_their_bytes():
    rows = [(1, b"x" * size) for size in (10, texts.BYTES, 1, texts.BYTES - 1, 1)]
    assert [[len(row[1]) for row in part] for part in texts.weighed(rows)] == [
        [10],
        [texts.BYTES],
        [1, texts.BYTES - 1],
        [1],
    ]
    assert list(texts.weighed([])) == []


# Rivals


def test_who_writes_a_document_is_not_overtaken_by_those_who_hold_it(server, url, store):
    ((done,),) = store.apply([(seam.PutDocument("main", "queues", 0, b"{}"),)])
    with databases.open(url).connect() as holder, databases.open(url).connect() as late:
        hold(holder)
        results = []
        thread = threading.Thread(
            target=lambda: results.extend(store.apply([(seam.PutDocument("main", "queues", done.version, b"{}"),)]))
        )
        thread.start()
        wait_until(lambda: waits(server))
        if not mysql(server):
            late.exec_driver_sql("SET lock_timeout = '100ms'")
        with pytest.raises(Exception, match=r"(?i)lock"):
            hold(late, "NOWAIT" if mysql(server) else "")
        late.rollback()
        holder.rollback()
        thread.join(10)
        assert results == [(seam.Stored(done.version + 1),)]


def hold(on, how=""):
    share = "LOCK IN SHARE MODE" if on.dialect.name == "mysql" else "FOR SHARE"
    on.exec_driver_sql(f"SELECT version FROM callboard_documents WHERE path = 'queues' {share} {how}")


def mysql(server):
    return isinstance(server, mariadb.MariaDb)


def waits(server):
    waiting = (
        "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
        if mysql(server)
        else "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    )
    return bool(server.sql(waiting))


async def test_a_users_open_transaction_keeps_only_those_waiting_who_need_what_it_holds(store, url):
    """The first job of a kind, and a job of the same id: both wait for the transaction's end, whoever puts them."""
    store.apply([(seam.Put(job(), now()),)])
    same = job()
    asks = queue.Queue(store)
    await asks.start()
    program = sa.create_engine(url.replace("mysql:", "mysql+mysqldb:").replace("postgresql:", "postgresql+psycopg:"))
    with program.connect() as theirs:
        assert joined.put(theirs, [job(kind="new.kind"), same], now()) == [seam.Created()] * 2
        others = [job() for _ in range(6)]
        given = [*others[:3], job(kind="new.kind"), *others[3:], same]
        told = await asyncio.gather(*(asks.submit([each]) for each in given), return_exceptions=True)
        held = [told.pop(7), told.pop(3)]
        assert told == [[seam.Created()]] * 6
        assert [(type(each), each.data["waited"]) for each in held] == [(errors.StoreUnavailable, True)] * 2
        theirs.commit()
    assert [await asks.submit([each]) for each in (given[3], same)] == [
        [seam.Created()],
        [seam.Same(model.State.AVAILABLE)],
    ]
    await asks.stop()
    program.dispose()


def test_expiry_goes_on_behind_claims_that_ended_at_that_moment(store, opened, url, monkeypatch):
    rival = opened(url)
    given = claimed(store, 4)
    taken = []
    locked = writes.Writes._locked_rows

    def late(self, seqs):
        if not taken:
            taken.append(given[0])
            rival.apply([settle(given[0], states.succeeded(given[0], None, now()))])
        return locked(self, seqs)

    monkeypatch.setattr(writes.Writes, "_locked_rows", late)
    ((first,),) = store.apply([(seam.Expire((NODE,), 2, now()),)])
    ((second,),) = store.apply([(seam.Expire((NODE,), 2, now()),)])
    assert [len(done.jobs) for done in (first, second)] == [2, 1]
    assert {job.id for done in (first, second) for job in done.jobs} == {job.id for job in given[1:]}


def test_what_others_promote_at_that_moment_is_left_to_them(store, url):
    store.apply([(seam.Put(job(state=model.State.SCHEDULED, run_at=now() + 1000), now()),)])
    promote = seam.Promote((("main", "default"),), 100, now() + 1_000_000)
    with databases.open(url).connect() as holder:
        holder.exec_driver_sql("SELECT seq FROM callboard_jobs FOR UPDATE")
        assert store.apply([(promote,)]) == [(seam.Promoted(0),)]
        holder.rollback()
    assert [list(unit) for unit in store.apply([(promote,)])] == [[seam.Promoted(1)]]


def test_names_that_others_add_at_that_moment_are_learned(store, opened, url, monkeypatch):
    rival = opened(url)
    store.apply([(seam.Put(job(), now()),)])
    run = texts.run
    asked = []

    def then(on, text, values=()):
        rows = run(on, text, values)
        if text.startswith(("SELECT domain, name", "SELECT route, domain")) and not asked:  # The first of the two.
            asked.append(text)
            rival.apply([(seam.Put(job(domain="late", kind="late.one"), now()),)])
        return rows

    monkeypatch.setattr(texts, "run", then)
    store.apply([(seam.Put(job(domain="new"), now()),)])
    assert asked
    assert {count.domain for count in store.counts("late")} == {"late"}


# Connections


def test_what_nobody_knew_of_is_closed_by_the_next_who_writes(server, url):
    with severing.Proxy(server.port) as proxy:
        on = line.Line(databases.open(to(url, proxy.port)), writer=b"w" * 16, settle_seconds=0.3, reach_seconds=0.3)
        before = on.transact(number)

        def work(c):
            c.exec_driver_sql("SELECT 1")
            proxy.silence()

        with pytest.raises(errors.StoreUnavailable) as raised:
            on.transact(work)
        assert raised.value.data == {"unknown": True}
        proxy.speak()
        wait_until(lambda: written(on))
        assert on.read(number) == before + 1
        on.close()


def number(c):
    return c.exec_driver_sql("SELECT number FROM callboard_marks WHERE writer = %s", (b"w" * 16,)).scalar()


def written(on):
    try:
        return on.transact(lambda c: True)
    except errors.StoreUnavailable:
        return False


def test_a_question_is_asked_again_when_a_migration_changes_a_table_beneath_it(server, url, opened):
    opened(url)
    on = line.Line(databases.open(url))
    copied = ", ALGORITHM = COPY" if mysql(server) else ""  # As a server does where it has no quicker way.
    looks = []

    def work(c):
        looks.append(c.exec_driver_sql("SELECT version FROM callboard_store").scalar())
        if len(looks) == 1:
            server.sql(f"ALTER TABLE callboard_documents ADD COLUMN later integer{copied}", urlsplit(url).path[1:])
        return c.exec_driver_sql("SELECT count(*) FROM callboard_documents").scalar()

    assert on.read(work) == 0
    assert len(looks) == (2 if mysql(server) else 1)
    on.close()


def test_many_lines_begin_at_once_where_there_is_nothing_yet(url):
    lines = [line.Line(databases.open(url)) for _ in range(8)]
    start = threading.Barrier(len(lines))
    done = []

    def begin(on):
        start.wait(10)
        done.append(on.transact(lambda c: c.exec_driver_sql("SELECT 1").scalar()))

    threads = [threading.Thread(target=begin, args=(on,)) for on in lines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert done == [1] * len(lines)
    for on in lines:
        on.close()


def test_a_store_that_may_not_be_read_says_so(server, url):
    name = urlsplit(url).path[1:]
    if mysql(server):
        server.sql(f"CREATE USER blind IDENTIFIED BY 'blind-sesame'; GRANT CREATE, INSERT ON {name}.* TO blind")
        engines.open(url).close()
        url = url.replace("callboard:open-sesame", "blind:blind-sesame")
    else:
        server.sql("CREATE TABLE callboard_store(id int PRIMARY KEY, version int, min_reader int, touched bigint)", name)
    with pytest.raises(errors.StoreRefused) as raised:
        engines.open(url)
    assert "denied" in raised.value.message
    assert "\n" not in raised.value.message


def test_a_server_that_freezes_while_it_is_looked_at_is_given_up(server, url):
    database = databases.open(url)
    with pytest.raises(Exception, match=r"(?i)lost|closed|gone"), database.visit() as on:
        server.freeze()
        on.exec_driver_sql("SELECT 1")


def test_an_errand_that_hangs_keeps_nobody_from_being_cut_off():
    hangs, goes_on = threading.Event(), threading.Event()

    def hang():
        hangs.set()
        goes_on.wait(10)

    lookout.shared.errand("hangs", hang)
    hangs.wait(5)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        guard = lookout.Guard(ours.fileno(), "gone", lambda: False)
        ours.settimeout(5)
        guard.begin()
        assert ours.recv(1) == b""
        guard.close()
    goes_on.set()


def test_a_node_that_gives_its_data_to_another_is_left(galera, opened):
    store = opened(galera.database())
    store.apply([(seam.Put(job(), now()),)])
    donor = galera.members[0]
    thread = threading.Thread(target=donor.sql, args=("FLUSH TABLES WITH READ LOCK; SELECT SLEEP(11)",), kwargs={"seconds": 30})
    thread.start()
    wait_until(lambda: donor.sql("SHOW STATUS LIKE 'wsrep_local_state_comment'")[0][1].startswith("Donor"))
    with pytest.raises(errors.StoreUnavailable, match="waited"):
        store.apply([(seam.Put(job(), now()),)])
    assert store.apply([(seam.Put(job(), now()),)]) == [(seam.Created(),)]
    assert thread.is_alive()
    thread.join()


@pytest.mark.parametrize("open", [engines.open, engines.migrate])
def test_a_driver_that_lacks_a_library_is_named_in_one_line(monkeypatch, open):
    def load(*_):
        raise ImportError("no wrapper available.\nAttempts made:\n- couldn't import libpq")

    monkeypatch.setattr(metadata.EntryPoint, "load", load)
    monkeypatch.setattr(importlib, "import_module", load)
    with pytest.raises(errors.InvalidSetting) as raised:
        open("postgresql://me@here/store")
    assert "no wrapper available" in raised.value.message
    assert "pip install 'callboard[postgresql]'" in raised.value.message
    assert "\n" not in raised.value.message


# Secrets


def test_errors_of_statements_tell_no_values(url):
    with databases.open(url).connect() as on, pytest.raises(Exception, match="nowhere") as raised:
        on.exec_driver_sql("INSERT INTO nowhere VALUES (%s, %s)", ("hush", b"hush"))
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize("show", [repr, str, "{}".format])
def test_an_address_shows_no_password(show):
    given = address.parsed("mysql://me:sesame@here/store")
    assert "sesame" not in show(given)
    assert msgspec.structs.replace(given, user="you").password == "sesame"


def test_a_handler_may_ask_for_any_delay():
    ended = endings.failed(job(state=model.State.RUNNING, node=NODE), endings.Failure(endings.LATER, delay_seconds=1e308), now())
    assert ended.outcome.run_at < 1 << 62


def to(url, port):
    """The same database behind another port."""
    parts = urlsplit(url)
    login, _, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{port}"))


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
