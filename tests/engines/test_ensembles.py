"""The client of ZooKeeper ensembles against real ones: what servers do to it, and what it says when it is not let in."""

from __future__ import annotations

import itertools
import threading
import time

import pytest
from kazoo.client import KazooClient

from callboard import ensembles, errors
from callboard.coordination import engine as seam
from callboard.coordination import engines
from callboard.ensembles import address, client, requests
from callboard.testing import severing
from callboard.testing.engines import haproxy, servers
from callboard.testing.engines import zookeeper as zookeepers
from tests.conftest import INSTALL

pytestmark = pytest.mark.xdist_group("zookeeper")
SECONDS = 3.0
_roots = itertools.count()


@pytest.fixture
def connect(zookeeper):
    """Connect clients to a root of their own, which is there: `connect()`."""
    root = f"/ensembles-{time.time_ns()}-{next(_roots)}"
    opened = []

    def connect(url="", **options):
        made = client.Client(address.parsed(url or zookeeper.url(root)), SECONDS, **options)
        opened.append(made)
        made.start(10)
        made.commit([requests.create(root, b"")])
        return made

    connect.root = root
    yield connect
    for each in opened:
        each.close()


@pytest.fixture(scope="module")
def guarded():
    """A server that lets in nobody but `app`, and that speaks TLS to those who show a certificate."""
    if reason := zookeepers.installed():
        pytest.skip(f"needs ZooKeeper ({reason}): {INSTALL}")
    with zookeepers.Ensemble(1, login={"app": "secret", "other": "else"}, tls=True, mutual=True) as ensemble:
        yield ensemble


def server_of(ensemble, of):
    """The server that a client is connected to."""
    return next(each for each in ensemble.members if of._connection.server.endswith(f":{each.port}"))


def surely(of, path):
    """Commit a node whatever happens, as an engine does: after an interruption it looks whether it was applied. Tells how often
    it was not sure."""
    doubts, deadline = 0, time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if doubts:
                of.sync()
                if of.read([path])[0] is not None:
                    return doubts
            (result,) = of.commit([requests.create(path, b"")])
            assert result.code == requests.OK, f"{path} was applied, and the look before did not tell"
            return doubts
        except client.Interrupted:
            doubts += 1
    raise TimeoutError(path)


def test_steps_reads_and_what_they_tell(connect):
    one, other = connect(), connect()
    root = connect.root
    made = one.commit([requests.create(f"{root}/a", b"A"), requests.create(f"{root}/n-", b"", sequential=True)])
    assert made[1].path == f"{root}/n-0000000001" and made[0].zxid == made[1].zxid
    other.sync()
    found, absent, numbered = other.read([f"{root}/a", f"{root}/b", made[1].path])
    assert (found.body, found.version, found.czxid, numbered.czxid, absent) == (b"A", 0, made[0].zxid, made[0].zxid, None)
    guarded = [requests.check(f"{root}/a", 0), requests.write(f"{root}/a", b"B", 0), requests.delete(made[1].path)]
    assert [result.code for result in other.commit(guarded)] == [0, 0, 0]
    assert [result.code for result in one.commit(guarded)] == [requests.BAD_VERSION, requests.SKIPPED, requests.SKIPPED]
    assert one.children(root) == ["a"] and one.children(f"{root}/b") is None


def test_the_transaction_is_that_of_the_new_node_whoever_writes_besides(connect):
    clients, wrong = [connect(), connect()], []

    def write(number, of):
        for turn in range(40):
            made = of.commit([requests.create(f"{connect.root}/{number}-{turn}", b""), requests.write(connect.root, b"")])
            (found,) = of.read([f"{connect.root}/{number}-{turn}"])
            wrong.extend([made] if {found.czxid} != {result.zxid for result in made} else [])

    threads = [threading.Thread(target=write, args=(number, clients[number % 2])) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and len(clients[0].children(connect.root)) == 240


def test_what_is_too_much_for_one_request(connect):
    one, root = connect(), connect.root
    room = requests.MOST_BYTES - len(requests.Multi([requests.create(f"{root}/a", b"")]))
    with pytest.raises(errors.TooLarge, match="1000000"):
        one.commit([requests.create(f"{root}/a", bytes(room + 1))])
    assert one.commit([requests.create(f"{root}/a", bytes(room))])[0].code == requests.OK
    for number in range(6):
        one.commit([requests.create(f"{root}/{number}", bytes(900_000))])
    found = one.read([f"{root}/a", *(f"{root}/{number}" for number in range(6))] * 2)
    assert [len(each.body) for each in found[:2]] == [room, 900_000] and len(found) == 14


def test_a_majority_is_asked_on_each_connection_and_again_after_a_while(connect, monkeypatch):
    """A server that was voted out, and does not know it yet, answers a plain sync, and reads what has long changed."""
    made = connect()
    plain, asked = requests.sync, []

    def counted(path):
        asked.append(path)
        return plain(path)

    monkeypatch.setattr(requests, "sync", counted)
    number = made.connections
    made._connection.leave()
    servers.wait_for(lambda: made.connections > number, "another connection is tried", 10)
    made.sync()
    assert not asked
    made.sync()
    made.commit([requests.create(f"{connect.root}/a", b"")])
    found = made.synced([f"{connect.root}/a"])
    assert found[0] is not None and len(asked) == 2
    monkeypatch.setattr(client, "_PROVEN_SECONDS", 0.0)
    made.synced([f"{connect.root}/a"])
    assert len(asked) == 2


def test_what_a_step_costs_us(connect, record_property):
    one, root, turns = connect(), connect.root, 20
    began = time.process_time()
    for turn in range(turns):
        one.commit([requests.create(f"{root}/{turn}-{step}", bytes(150)) for step in range(200)])
    written = time.process_time()
    for turn in range(turns):
        one.read([f"{root}/{turn}-{step}" for step in range(200)])
    for name, spent in (("step", written - began), ("read", time.process_time() - written)):
        record_property("figure", f"ensembles: {spent / turns / 200 * 1e6:.1f} us of CPU a {name}, 200 at once")


def test_servers_die_one_after_the_other_until_there_is_no_majority(zookeeper, connect, record_property):
    one, hasty = connect(), connect(patience_seconds=2)
    surely(one, f"{connect.root}/before")
    first = server_of(zookeeper, one)
    first.kill()
    began = time.monotonic()
    doubts = surely(one, f"{connect.root}/after")
    record_property("figure", f"ensembles: kill of our server, written again after {time.monotonic() - began:.2f} s")
    assert doubts <= 3 and one.generation == 1
    next(each for each in zookeeper.members if each is not first).kill()
    with pytest.raises(errors.StoreUnavailable, match="majority of its servers runs"):
        surely(hasty, f"{connect.root}/nowhere")
    zookeeper.start()
    for of in (one, hasty):
        surely(of, f"{connect.root}/{id(of)}")
    there = connect(f"zookeeper://{first.address}:{first.port}{connect.root}")
    there.sync()
    assert {"before", "after", str(id(one)), str(id(hasty))} <= set(there.children(connect.root))


def test_a_frozen_server_is_left_and_what_it_still_holds_comes_too_late(zookeeper, connect, record_property):
    one, root = connect(), connect.root
    server = server_of(zookeeper, one)
    server.freeze()
    servers.wait_for(lambda: not server.mode(), "all its threads stand still", 5)
    began = time.monotonic()
    with pytest.raises(client.Interrupted):
        one.commit([requests.create(f"{root}/late", b"")])
    doubts = surely(one, f"{root}/after")
    record_property("figure", f"ensembles: freeze of our server, written again after {time.monotonic() - began:.2f} s")
    assert doubts <= 3 and one.generation == 1
    one.sync()
    assert one.read([f"{root}/late"]) == [None]
    server.cont()
    zookeeper.wait_ready()
    there = connect(f"zookeeper://{server.address}:{server.port}{root}")
    there.sync()
    assert there.children(root) == ["after"]


def test_a_session_that_is_over_is_followed_by_another(connect):
    one = connect()
    one.commit([requests.create(f"{connect.root}/mine", b"", ephemeral=True)])
    kazoo = one._connection._client
    thief = KazooClient(kazoo.hosts[0][0] + f":{kazoo.hosts[0][1]}", client_id=kazoo.client_id)
    thief.start()
    thief.stop()
    thief.close()
    surely(one, f"{connect.root}/b")
    assert one.generation == 2 and one.children(connect.root) == ["b"]


def test_behind_a_proxy_while_a_server_is_maintained(zookeeper, connect):
    with haproxy.HaProxy([member.port for member in zookeeper.members], "zookeeper") as proxy:
        one = connect(proxy.url(zookeeper.url(connect.root)))
        surely(one, f"{connect.root}/before")
        with zookeeper.maintain(zookeeper.leader()):
            surely(one, f"{connect.root}/without")
        surely(one, f"{connect.root}/with")
        assert len(one.children(connect.root)) == 3 and one.generation == 1


def test_twenty_quick_flaps(zookeeper, connect):
    with haproxy.HaProxy([member.port for member in zookeeper.members], "zookeeper") as proxy:
        one, enough, done, doubts = connect(proxy.url(zookeeper.url(connect.root))), threading.Event(), [], []

        def write():
            for number in itertools.count():
                if enough.is_set():
                    return
                doubts.append(surely(one, f"{connect.root}/{number}"))
                done.append(number)

        writer = threading.Thread(target=write)
        writer.start()
        for _ in range(20):
            before = len(done)
            for number in range(1, 4):
                proxy.ask(f"shutdown sessions server zookeeper/server-{number}")
            deadline = time.monotonic() + 10
            while len(done) == before and time.monotonic() < deadline:
                time.sleep(0.01)
        enough.set()
        writer.join()
        assert sum(map(bool, doubts)) > 0
        one.sync()
        assert sorted(map(int, one.children(connect.root))) == done and one.generation == 1


def test_it_leaves_nothing_behind(connect):
    connect()
    before = set(threading.enumerate())
    one = connect()
    one.close()
    one.close()
    assert set(threading.enumerate()) <= before
    with pytest.raises(errors.StoreUnavailable, match="closed"):
        one.sync()


def test_what_a_user_makes_is_that_users_alone(zookeeper, connect):
    root = f"/ensembles-{time.time_ns()}"
    owner = connect(zookeeper.url(root, "app:secret"))
    owner.commit([requests.create(root, b""), requests.create(f"{root}/a", b"")])
    for login in ("", "app:wrong"):
        with pytest.raises(errors.StoreRefused, match="has no right to") as refused:
            connect(zookeeper.url(root, login))
        assert "wrong" not in str(refused.value)
    again = connect(zookeeper.url(root, "app:secret"))
    assert again.children(root) == ["a"]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (lambda of: of.url("", "app:wrong") + "?auth=sasl", "refuses user 'app' or the password"),
        (lambda of: of.url(), "wants a login"),
        (lambda of: of.tls_url("", "app:secret") + "&auth=sasl", "bad certificate.*may ask for a certificate"),
        (lambda of: f"zookeeper://{of.tls_hosts}?tls=true", "its certificate does not do .unable to get local issuer"),
        (lambda of: of.tls_url().replace("localhost", "127.0.0.1"), "its certificate does not do .ip address mismatch"),
    ],
)
def test_who_is_not_let_in_hears_why(guarded, url, why):
    made = client.Client(address.parsed(url(guarded)), SECONDS)
    with pytest.raises(errors.StoreRefused, match=why) as refused:
        made.start(10)
    assert "wrong" not in str(refused.value) and "\n" not in str(refused.value)


def test_a_login_where_there_are_none(zookeeper):
    made = client.Client(address.parsed(zookeeper.url("", "app:secret") + "?auth=sasl"), SECONDS)
    with pytest.raises(errors.StoreRefused, match="does not log users in by SASL"):
        made.start(5)


def test_encryption_where_there_is_none_and_none_where_there_is(zookeeper, guarded):
    for url, why in (
        (zookeeper.url() + "?tls=true", "may speak no TLS there"),
        (f"zookeeper://{guarded.tls_hosts}", "speaks TLS: add .tls=true"),
    ):
        made = client.Client(address.parsed(url), SECONDS)
        with pytest.raises(errors.StoreError, match=why):
            made.start(1)


@pytest.mark.parametrize("harm", ["cut", pytest.param("kill", marks=pytest.mark.long)])
def test_logged_in_and_encrypted_and_again_after_the_connection_broke(guarded, harm):
    server, root = guarded.members[0], f"/mine-{harm}"
    with severing.Proxy(server.tls_port) as proxy:
        url = guarded.tls_url(root, "app:secret", "client").replace(guarded.tls_hosts, f"localhost:{proxy.port}")
        made = client.Client(address.parsed(f"{url}&auth=sasl"), SECONDS)
        made.start(10)
        made.commit([requests.create(root, b"x" * 900_000)])
        assert len(made.read([root] * 3)) == 3
        other = client.Client(address.parsed(guarded.url(root, "other:else") + "?auth=sasl"), SECONDS)
        with pytest.raises(errors.StoreRefused, match=f"user 'other' has no right to {root}"):
            other.start(10)
        if harm == "kill":
            server.kill()
            guarded.start()
        proxy.cut()
        surely(made, f"{root}/after")
        assert made.generation == 1
        made.close()


async def test_coordination_logged_in_and_encrypted(guarded):
    url = guarded.tls_url("/coordination", "app:secret", "client") + "&auth=sasl"
    session = await engines.open(url, session_seconds=SECONDS).session("a")
    (number,) = await session.apply([seam.Create("active/x", b"")])
    assert [entry.number for entry in await session.entries("active")] == [number]
    await session.close()
    with pytest.raises(errors.CoordinationError, match="refuses user 'app'"):
        await engines.open(guarded.url("/x", "app:wrong") + "?auth=sasl", session_seconds=SECONDS).session("b")
    with pytest.raises(errors.CoordinationError, match=r"refused|does not let us make"):
        await engines.open(guarded.url("/coordination", "other:else") + "?auth=sasl", session_seconds=SECONDS).session("b")


def test_what_a_check_finds(zookeeper, connect, guarded):
    found = ensembles.check(zookeeper.url(connect.root))
    old = zookeeper.members[0].ask("srvr").startswith("Zookeeper version: 3.8.0")
    levels = [level for level, _, _ in found]
    assert levels == ["fit"] * 4 + ["warning" if old else "fit"] + ["fit"] * 2 + ["warning"] and "open to anybody" in found[-1][1]
    assert found[4][1].startswith("ZooKeeper 3.8.0 can lose" if old else "ZooKeeper ")
    assert connect().children(connect.root) == [], "nothing is changed"
    (unfit,) = ensembles.check(guarded.url("", "app:wrong") + "?auth=sasl")
    assert unfit == ("unfit", unfit[1], "look at USER:PASSWORD@ in the URL") and "refuses user 'app'" in unfit[1]
    alone = ensembles.check(guarded.tls_url("", "app:secret", "client") + "&auth=sasl")
    assert [level for level, _, _ in alone] == ["fit", "warning", "fit", "fit", "fit"]
