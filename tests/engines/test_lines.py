"""Lines to real servers: what becomes of transactions when connections and servers are killed, frozen and cut off."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

import pytest

from callboard import databases, errors
from callboard.databases import fitness, line
from callboard.testing import severing

PRODUCTS = ("mariadb", "postgresql")
SOONER_THAN_LOCKS_SECONDS = 4.5
"""Who waits for a lock that nobody lets go waits for longer."""


class Server(Protocol):
    port: int

    def database(self) -> str: ...
    def start(self) -> None: ...
    def kill(self) -> None: ...
    def freeze(self) -> None: ...
    def cont(self) -> None: ...
    def sql(self, text: str) -> list[tuple[str, ...]]: ...


@pytest.fixture(params=PRODUCTS)
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def url(server: Server) -> str:
    return server.database()


@pytest.fixture
def opened() -> Iterator[Callable[..., line.Line]]:
    lines: list[line.Line] = []

    def open(url: str, **settings: object) -> line.Line:
        lines.append(line.Line(databases.open(url), **settings))
        return lines[-1]

    yield open
    for each in lines:
        each.close()


@pytest.fixture
def proxy(server: Server) -> Iterator[severing.Proxy]:
    with severing.Proxy(server.port) as proxy:
        yield proxy


def through(proxy: severing.Proxy, url: str) -> str:
    return to(url, proxy.port)


def made(on: line.Line) -> None:
    blob = "VARBINARY(20)" if on.database.product.name == "mysql" else "bytea"
    on.transact(
        lambda c: c.exec_driver_sql(f"CREATE TABLE things (id BIGINT PRIMARY KEY, body {blob}, number BIGINT NOT NULL DEFAULT 0)")
    )


def put(on: line.Line, id: int, *, table: str = "things") -> int:
    return on.transact(lambda c: c.exec_driver_sql(f"INSERT INTO {table} (id) VALUES (%s)", (id,)).rowcount)


def ids(on: line.Line) -> list[int]:
    return list(on.read(lambda c: c.exec_driver_sql("SELECT id FROM things ORDER BY id").scalars()))


def marks(on: line.Line) -> list[int]:
    return list(on.read(lambda c: c.exec_driver_sql("SELECT number FROM callboard_marks").scalars()))


class TestConnecting:
    @pytest.mark.parametrize("answered", [True, False], ids=["answered", "unheard"])
    def test_a_connection_may_break_at_any_word(self, url, opened, proxy, answered):
        """It is made anew, or the store is away: nothing else is ever told."""
        made(opened(url))
        for time_ in itertools.count(1):
            on = opened(through(proxy, url), reach_seconds=0.0)
            proxy.cut_at(b"", answered=answered, time=time_)
            before, written = proxy.cuts, 0
            with contextlib.suppress(errors.StoreUnavailable):
                written = put(on, time_)
                assert written == 1
            if written and proxy.cuts == before:
                break
        assert proxy.cuts > 5 and ids(opened(url))[-1] == time_


class TestWork:
    def test_what_was_written_is_read(self, url, opened):
        on = opened(url)
        made(on)
        body = b"\x00\xff\\'"
        assert on.transact(lambda c: c.exec_driver_sql("INSERT INTO things (id, body) VALUES (1, %s)", (body,)).rowcount) == 1
        assert on.read(lambda c: c.exec_driver_sql("SELECT body FROM things").scalar()) == body

    def test_each_transaction_counts_and_reading_does_not(self, url, opened):
        on = opened(url)
        made(on)
        before = marks(on)
        put(on, 1)
        assert ids(on) == [1]
        assert marks(on) == [before[0] + 2]

    def test_one_that_only_reads_makes_no_mark(self, url, opened):
        on, reader = opened(url), opened(url)
        made(on)
        assert ids(reader) == []
        assert len(marks(reader)) == 1

    def test_a_read_sees_one_moment(self, url, opened):
        on, reader = opened(url), opened(url)
        made(on)

        def work(c):
            first = c.exec_driver_sql("SELECT count(*) FROM things").scalar()
            put(on, 1)
            return first, c.exec_driver_sql("SELECT count(*) FROM things").scalar()

        assert reader.read(work) == (0, 0)
        assert ids(reader) == [1]

    def test_what_was_raised_is_rolled_back(self, url, opened):
        on = opened(url)
        made(on)

        def work(c):
            c.exec_driver_sql("INSERT INTO things (id) VALUES (1)")
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            on.transact(work)
        assert ids(on) == []

    def test_a_wrong_statement_is_raised_as_it_is(self, url, opened):
        on = opened(url)
        with pytest.raises(Exception, match="nonsense") as raised:
            on.transact(lambda c: c.exec_driver_sql("nonsense"))
        assert type(raised.value).__name__ == "ProgrammingError"

    def test_a_matched_row_counts_though_it_does_not_change(self, url, opened):
        on = opened(url)
        made(on)
        put(on, 1)
        assert on.transact(lambda c: c.exec_driver_sql("UPDATE things SET number = 0").rowcount) == 1

    def test_a_line_that_is_closed_takes_its_mark_away(self, url, opened):
        on, other = opened(url), opened(url)
        made(on)
        put(other, 1)
        assert len(marks(on)) == 2
        other.close()
        other.close()
        assert len(marks(on)) == 1

    def test_a_mark_that_was_taken_away_is_made_anew(self, url, opened):
        on, other = opened(url), opened(url)
        made(on)
        other.transact(lambda c: c.exec_driver_sql("DELETE FROM callboard_marks"))
        assert put(on, 1) == 1
        assert put(other, 2) == 1
        assert ids(on) == [1, 2]

    def test_marks_of_long_ago_are_removed(self, url, opened):
        on = opened(url)
        made(on)
        on.transact(lambda c: c.exec_driver_sql("UPDATE callboard_marks SET number = number, used_at = '2020-01-01 00:00:00'"))
        other = opened(url)
        put(other, 1)
        assert len(marks(other)) == 1


class TestConflicts:
    def test_the_victim_of_a_deadlock_is_run_again(self, url, opened):
        first, second = opened(url), opened(url)
        made(first)
        put(first, 1)
        put(first, 2)
        met = threading.Barrier(2)
        runs = []

        def work(order):
            tried = []

            def run(c):
                runs.append(order)
                tried.append(order)
                c.exec_driver_sql("UPDATE things SET number = number + 1 WHERE id = %s", (order[0],))
                if len(tried) == 1:
                    met.wait(10)
                c.exec_driver_sql("UPDATE things SET number = number + 1 WHERE id = %s", (order[1],))

            return run

        thread = threading.Thread(target=lambda: second.transact(work((2, 1))))
        thread.start()
        first.transact(work((1, 2)))
        thread.join(10)
        assert len(runs) == 3
        assert first.read(lambda c: c.exec_driver_sql("SELECT number FROM things").scalars().all()) == [2, 2]

    def test_a_lock_is_not_waited_for_for_ever(self, url, opened):
        first, second = opened(url), opened(url)
        made(first)
        put(first, 1)

        def work(c):
            c.exec_driver_sql("UPDATE things SET number = 1")
            with pytest.raises(errors.StoreUnavailable, match="waited too long for a lock"):
                second.transact(lambda c: c.exec_driver_sql("UPDATE things SET number = 2"))

        began = time.monotonic()
        first.transact(work)
        assert 4 < time.monotonic() - began < 8


class TestLostConnections:
    @pytest.mark.parametrize("answered", [True, False])
    @pytest.mark.parametrize("silently", [True, False])
    def test_a_commit_whose_answer_is_lost_is_settled(self, server, url, proxy, opened, answered, silently):
        on = opened(through(proxy, url))
        made(on)
        runs = []

        def work(c):
            runs.append(1)
            return c.exec_driver_sql("INSERT INTO things (id) VALUES (1)").rowcount

        proxy.cut_at(b"COMMIT", answered=answered, silently=silently)
        began = time.monotonic()
        assert on.transact(work) == 1
        assert time.monotonic() - began < SOONER_THAN_LOCKS_SECONDS
        assert proxy.cuts == 1
        assert len(runs) == (1 if answered else 2)
        assert put(on, 2) == 1
        assert ids(on) == [1, 2]

    @pytest.mark.parametrize("silently", [True, False])
    def test_a_connection_that_is_lost_before_the_commit_is_made_anew(self, url, proxy, opened, silently):
        on = opened(through(proxy, url))
        made(on)
        proxy.cut_at(b"INSERT INTO things", answered=True, silently=silently)
        assert put(on, 1) == 1
        assert ids(on) == [1]

    def test_what_nobody_can_tell_is_unknown(self, server, url, proxy, opened):
        on = opened(through(proxy, url), settle_seconds=0.5)
        made(on)

        def work(c):
            c.exec_driver_sql("INSERT INTO things (id) VALUES (1)")
            proxy.cut_at(b"COMMIT", answered=True, last=True)

        with pytest.raises(errors.StoreUnavailable) as raised:
            on.transact(work)
        assert raised.value.data == {"unknown": True}
        proxy.speak()
        assert put(on, 2) == 1
        assert ids(on) == [1, 2]

    def test_a_settlement_whose_answer_is_lost_is_settled(self, url, proxy, opened):
        on = opened(through(proxy, url))
        made(on)
        runs = []

        def work(c):
            runs.append(1)
            c.exec_driver_sql("INSERT INTO things (id) VALUES (1)")
            proxy.cut_at(b"COMMIT" if len(runs) == 1 else b"no such word", answered=False)
            threading.Thread(target=cut_again, daemon=True).start()

        def cut_again():
            while not proxy.cuts:
                time.sleep(0.0005)
            if proxy.cuts == 1:
                proxy.cut_at(b"COMMIT", answered=True)

        on.transact(work)
        assert ids(on) == [1]


class TestServersThatStop:
    def test_a_frozen_server_is_given_up_and_taken_again(self, server, url, opened):
        on = opened(url)
        made(on)
        server.freeze()
        began = time.monotonic()
        with pytest.raises(errors.StoreUnavailable) as raised:
            put(on, 1)
        assert time.monotonic() - began < 7
        assert "unknown" not in raised.value.data
        server.cont()
        began = time.monotonic()
        wait_until(lambda: answers(lambda: put(on, 2)))
        assert time.monotonic() - began < 3
        assert ids(on) == [2]

    def test_a_frozen_server_does_not_hold_up_reading(self, server, url, opened):
        on = opened(url)
        made(on)
        ids(on)
        server.freeze()
        began = time.monotonic()
        with pytest.raises(errors.StoreUnavailable):
            ids(on)
        assert time.monotonic() - began < 7
        server.cont()
        wait_until(lambda: answers(lambda: ids(on)), line.AWAY_SECONDS + 3)

    def test_a_slow_statement_is_not_cut(self, server, url, opened):
        on = opened(url)
        made(on)
        slow = "SELECT SLEEP(4)" if on.database.product.name == "mysql" else "SELECT pg_sleep(4)"
        runs = []

        def work(c):
            runs.append(1)
            c.exec_driver_sql(slow).fetchall()

        on.transact(work)
        assert runs == [1]

    @pytest.mark.long
    def test_twenty_kills_in_a_row(self, server, url, opened, record_property):
        on = opened(url)
        made(on)
        slowest = 0.0
        for number in range(20):
            server.kill()
            server.start()
            began = time.monotonic()
            assert put(on, number) == 1
            slowest = max(slowest, time.monotonic() - began)
        assert ids(on) == list(range(20))
        assert slowest < 1
        record_property(
            "figure", f"{on.database.product.name}: first commit after a kill and restart: {slowest * 1000:.0f} ms at most"
        )

    def test_kills_under_load_lose_nothing_and_do_nothing_twice(self, server, url, opened):
        on, other = opened(url), opened(url)
        made(on)
        load = Load(on)
        for _ in range(5):
            load.more()
            server.kill()
            server.start()
        load.more()
        load.end()
        load.check(ids(other))


class TestRefusals:
    """Whatever a server refuses is one line that says what helps, and shows no password."""

    def refused(self, url: str, kind: type[errors.StoreError], work=lambda c: None) -> str:
        on = line.Line(databases.open(url))
        began = time.monotonic()
        with pytest.raises(kind) as raised:
            on.transact(work)
        on.close()
        assert time.monotonic() - began < line.REACH_SECONDS + 4
        text = raised.value.message
        assert type(raised.value) is kind
        assert "\n" not in text
        assert "sesame" not in text
        return text

    def test_a_wrong_password(self, url):
        assert "correct the user or the password" in self.refused(url.replace("open-sesame", "shut-sesame"), errors.StoreRefused)

    def test_an_unknown_database(self, url):
        text = self.refused(f"{url.rpartition('/')[0]}/callboard_nowhere", errors.StoreRefused)
        assert "callboard_nowhere" in text
        assert "CREATE DATABASE" in text

    def test_nobody_listens(self, url):
        assert "is it running?" in self.refused(to(url, 1), errors.StoreUnavailable)

    def test_a_name_that_is_none(self, url):
        assert "is no name that leads anywhere" in self.refused(
            url.replace("127.0.0.1", "no-such-host.invalid"), errors.StoreUnavailable
        )

    def test_a_user_that_may_only_read(self, server, url):
        name = url.rpartition("/")[2]
        if url.startswith("mysql"):
            server.sql(f"CREATE OR REPLACE USER reader IDENTIFIED BY 'reader-sesame'; GRANT SELECT ON {name}.* TO reader")
        else:
            server.sql("DROP ROLE IF EXISTS reader")
            server.sql("CREATE ROLE reader LOGIN PASSWORD 'reader-sesame'")
        text = self.refused(url.replace("callboard:open-sesame", "reader:reader-sesame"), errors.StoreRefused)
        assert "GRANT" in text or "grant" in text

    @pytest.mark.parametrize("known", [True, False])
    def test_a_server_that_is_read_only(self, server, url, opened, known):
        on = opened(url)
        if known:
            made(on)
        if url.startswith("mysql"):
            server.sql("SET GLOBAL read_only = ON")
        else:
            server.sql("ALTER SYSTEM SET default_transaction_read_only = on")
            server.sql("SELECT pg_reload_conf()")
            wait_until(lambda: server.sql("SHOW default_transaction_read_only") == [("on",)])
        with pytest.raises(errors.StoreUnfit, match="read-only"):
            for number in range(100):
                put(on, number)
                time.sleep(0.01)

    def test_no_space(self, url, opened):
        on = opened(url)
        made(on)
        if url.startswith("mysql"):
            failing = ["BEGIN NOT ATOMIC SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1021, MESSAGE_TEXT = 'Disk full'; END"]
            failing.append(
                "BEGIN NOT ATOMIC SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1114, MESSAGE_TEXT = 'The table is full'; END"
            )
            failing.append("BEGIN NOT ATOMIC SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 3, MESSAGE_TEXT = 'Errcode: 28'; END")
        else:
            failing = ["DO $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$"]
        for statement in failing:
            with pytest.raises(errors.StoreFull, match="free space"):
                on.transact(lambda c, statement=statement: c.exec_driver_sql(statement))
        assert put(on, 1) == 1

    def test_packets_that_are_too_small(self, mariadb, opened):
        mariadb.sql("SET GLOBAL max_allowed_packet = 65536")
        assert "16M" in self.refused(mariadb.database(), errors.StoreUnfit)

    def test_too_many_connections(self, mariadb, opened):
        url = mariadb.database()
        mariadb.sql("SET GLOBAL max_connections = 10")
        lines = [opened(url) for _ in range(12)]
        with pytest.raises(errors.StoreUnavailable, match="max_connections"):
            for each in lines:
                each.read(lambda c: None)


class TestFitness:
    def test_a_fit_server(self, url):
        found = fitness.check(url)
        assert [each for each in found if each.level is not fitness.Level.FIT] == []
        assert len(found) >= 5

    def test_a_node_of_a_cluster(self, galera_database):
        found = fitness.check(galera_database)
        assert [each for each in found if each.level is not fitness.Level.FIT] == []
        assert any("cluster of 3 nodes" in each.what for each in found)

    def test_one_that_cannot_be_reached(self, url):
        (found,) = fitness.check(to(url, 1))
        assert found.level is fitness.Level.UNFIT
        assert found.mend == "is it running?"

    def test_settings_that_lose_what_was_acknowledged(self, mariadb):
        mariadb.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
        found = [each for each in fitness.check(mariadb.database()) if each.level is fitness.Level.WARNING]
        assert [each.mend for each in found] == ["set innodb_flush_log_at_trx_commit = 1 on the server"]

    def test_a_user_who_may_not_do_enough(self, mariadb):
        url = mariadb.database()
        name = url.rpartition("/")[2]
        mariadb.sql(f"CREATE OR REPLACE USER reader IDENTIFIED BY 'reader-sesame'; GRANT SELECT ON {name}.* TO reader")
        found = [each for each in fitness.check(url.replace("callboard:open-sesame", "reader:reader-sesame")) if each.mend]
        assert [each.what for each in found] == ["the user lacks INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX"]


def answers(ask: Callable[[], object]) -> bool:
    """Whether the server is in reach, as far as the line looks: for a moment after it was not, it does not look."""
    try:
        ask()
    except errors.StoreUnavailable:
        return False
    return True


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def to(url: str, *ports: int) -> str:
    """The same database at other servers."""
    parts = urlsplit(url)
    login, _, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login}@{','.join(f'127.0.0.1:{port}' for port in ports)}"))


class Load:
    """A thread that puts one number after the other."""

    def __init__(self, on: line.Line, table: str = "things") -> None:
        self.on = on
        self.table = table
        self.acknowledged: list[int] = []
        self.unknown: list[int] = []
        self.failures: list[BaseException] = []
        self.slowest = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        while not self._ended.is_set():
            number += 1
            began = time.monotonic()
            try:
                put(self.on, number, table=self.table)
                self.acknowledged.append(number)
                self.slowest = max(self.slowest, time.monotonic() - began)
            except errors.StoreUnavailable as error:
                if error.data.get("unknown"):
                    self.unknown.append(number)
            except BaseException as error:
                self.failures.append(error)
                return

    def more(self, count: int = 20, seconds: float = 15) -> None:
        """Wait until so many more were acknowledged."""
        wanted = len(self.acknowledged) + count
        deadline = time.monotonic() + seconds
        while len(self.acknowledged) < wanted:
            assert self.failures == []
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def end(self) -> None:
        self._ended.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        assert self.failures == []

    def check(self, there: list[int]) -> None:
        """Nothing acknowledged is lost, nothing that failed for sure was done."""
        assert set(self.acknowledged) <= set(there)
        assert set(there) <= set(self.acknowledged) | set(self.unknown)


class TestGalera:
    def test_the_first_host_is_used(self, galera, galera_database, opened):
        on = opened(galera_database)
        made(on)
        assert on.database.galera
        assert on.transact(lambda c: c.info["host"][1]) == galera.members[0].port

    @pytest.mark.parametrize("how", ["kill", "freeze"])
    def test_another_node_is_used_when_the_first_one_stops(self, galera, galera_database, opened, how, record_property):
        on = opened(galera_database)
        made(on)
        other = opened(to(galera_database, galera.members[1].port))
        other.transact(lambda c: c.exec_driver_sql("CREATE TABLE others (id BIGINT PRIMARY KEY)"))
        load, beside = Load(on), Load(other, "others")
        load.more()
        beside.more()
        getattr(galera.members[0], how)()
        load.more(30)
        beside.more(30)
        load.end()
        beside.end()
        load.check(ids(on))
        said = f"{load.slowest:.1f} s without a commit, {beside.slowest:.1f} s at another node"
        record_property("figure", f"galera: {how} of the node in use: {said}")
        assert load.slowest < beside.slowest + 2
        assert on.transact(lambda c: c.info["host"][1]) == galera.members[1].port

    @pytest.mark.long
    def test_the_first_host_is_used_again_when_it_is_back(self, galera, galera_database, opened):
        on = opened(galera_database)
        made(on)
        galera.members[0].kill()
        put(on, 1)
        assert on.transact(lambda c: c.info["host"][1]) == galera.members[1].port
        galera.mend()
        deadline = time.monotonic() + 20
        while on.transact(lambda c: c.info["host"][1]) != galera.members[0].port:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert ids(on) == [1]

    @pytest.mark.long
    def test_nodes_killed_under_load_lose_nothing_and_do_nothing_twice(self, galera, galera_database, opened):
        on = opened(galera_database)
        made(on)
        load = Load(on)
        for _ in range(3):
            load.more()
            used = next(member for member in galera.members if member.port == on._wire.host[1])
            used.kill()
            load.more()
            galera.mend()
        load.end()
        load.check(ids(on))

    def test_without_a_majority_it_is_unavailable(self, galera, galera_database, opened):
        on = opened(galera_database)
        made(on)
        galera.kill(*galera.members[:2])
        with pytest.raises(errors.StoreUnavailable):
            put(on, 1)
        with pytest.raises(errors.StoreUnavailable):
            put(on, 2)
        galera.mend()
        assert put(on, 3) == 1
        assert 3 in ids(on)

    @pytest.mark.parametrize("answered", [True, False])
    def test_a_commit_whose_answer_is_lost_is_settled_through_another_node(self, galera, galera_database, opened, answered):
        with severing.Proxy(galera.members[0].port) as proxy:
            on = opened(to(galera_database, proxy.port, galera.members[1].port))
            made(on)
            runs = []

            def work(c):
                runs.append(1)
                c.exec_driver_sql("INSERT INTO things (id) VALUES (1)")
                if len(runs) == 1:
                    proxy.close_listener()
                    proxy.cut_at(b"COMMIT", answered=answered, silently=True)

            on.transact(work)
            assert len(runs) == (1 if answered else 2)
            assert on.transact(lambda c: c.info["host"][1]) == galera.members[1].port
            assert ids(on) == [1]

    def test_writes_of_two_nodes_are_in_conflict(self, galera, galera_database, opened):
        first, second = (opened(to(galera_database, member.port)) for member in galera.members[:2])
        made(first)
        put(first, 1)
        runs = []

        def work(c):
            runs.append(1)
            c.exec_driver_sql("UPDATE things SET number = number + 1")
            if len(runs) == 1:
                second.transact(lambda c: c.exec_driver_sql("UPDATE things SET number = number + 1"))

        first.transact(work)
        assert len(runs) == 2
        assert second.read(lambda c: c.exec_driver_sql("SELECT number FROM things").scalar()) == 2

    @pytest.mark.parametrize("known", [True, False])
    def test_one_who_is_alone_sees_every_other_transaction(self, galera, galera_database, opened, known):
        first, second = (opened(to(galera_database, member.port)) for member in galera.members[:2])
        made(first)
        first.transact(lambda c: c.exec_driver_sql("CREATE TABLE callboard_store (id INT PRIMARY KEY, touched BIGINT)"))
        first.transact(lambda c: c.exec_driver_sql("INSERT INTO callboard_store VALUES (1, 0)"))
        if known:
            put(second, 1)
        seen = []

        def work(c):
            first.alone(c)
            seen.append(c.exec_driver_sql("SELECT count(*) FROM things").scalar())
            if len(seen) == 1:
                put(second, 2)

        before = len(ids(first))
        first.transact(work)
        assert seen == [before, before + 1]

    def test_what_was_committed_at_one_node_is_read_at_another(self, galera, galera_database, opened):
        first, second = (opened(to(galera_database, member.port)) for member in galera.members[:2])
        made(first)
        for number in range(200):
            put(first, number)
            assert ids(second)[-1] == number
