"""The real network: ports, and mutual TLS between servers with right and wrong certificates."""

import ssl
from datetime import UTC, datetime, timedelta

import pytest
import structlog
import uvloop

from callboard import errors
from callboard.rpc import certs, network, sockets
from tests.unit.rpc import nodes as kit
from tests.unit.rpc.nodes import Service, echo


def authority(directory):
    certs.init(directory)
    return directory


def tls(directory, server, **how):
    made = certs.issue(directory, server, **how)
    return sockets.Tls.load(certs.files(directory, certs.AUTHORITY)[0], made.certificate, made.key)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    return authority(tmp_path_factory.mktemp("cluster"))


@pytest.fixture(scope="module")
def listening(cluster):
    return tls(cluster, "two.example")


async def serve(nodes, listening):
    two = await nodes.start(Service(echo=echo), number=2, net=sockets.Sockets(listening), secret=b"")
    return two, network.Address(two.incarnation, two.address.host, two.address.port, "two.example")


async def client(nodes, certificates):
    return await nodes.start(number=1, net=sockets.Sockets(certificates), secret=b"", secret_of=lambda _address: b"")


async def test_servers_of_one_cluster_talk(nodes, cluster, listening):
    two, address = await serve(nodes, listening)
    one = await client(nodes, tls(cluster, "one.example"))
    assert await one.ask(address) == b"\x80"
    assert one.peers.connections()[0]["server"] == "two.example"
    assert two.peers.connections()[0]["server"] == "one.example"
    assert await one.ask(address, args=bytes(1 << 20)) == bytes(1 << 20)


def without_certificate(cluster, _tmp_path):
    made = tls(cluster, f"none{len(list(cluster.iterdir()))}.example")
    dialling = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    dialling.load_verify_locations(certs.files(cluster, certs.AUTHORITY)[0])
    return sockets.Tls(made.listening, dialling)


def of_another_authority(cluster, tmp_path):
    """Trusts the cluster, but shows a certificate that another authority made."""
    made = certs.issue(authority(tmp_path / "other"), "one.example")
    return sockets.Tls.load(certs.files(cluster, certs.AUTHORITY)[0], made.certificate, made.key)


def that_trusts_another_authority(cluster, tmp_path):
    made = certs.issue(cluster, "trusting.example")
    certs.init(tmp_path / "another")
    return sockets.Tls.load(certs.files(tmp_path / "another", certs.AUTHORITY)[0], made.certificate, made.key)


def expired(cluster, _tmp_path):
    return tls(cluster, "expired.example", now=datetime.now(UTC) - timedelta(days=10), days=5)


def not_yet_valid(cluster, _tmp_path):
    return tls(cluster, "early.example", now=datetime.now(UTC) + timedelta(days=10))


@pytest.mark.parametrize(
    "shown", [without_certificate, of_another_authority, that_trusts_another_authority, expired, not_yet_valid]
)
async def test_a_dialler_with_a_wrong_certificate_is_refused(nodes, cluster, listening, tmp_path, shown):
    two, address = await serve(nodes, listening)
    one = await client(nodes, shown(cluster, tmp_path))
    with structlog.testing.capture_logs() as logged, pytest.raises(errors.WrongCertificate) as caught:
        await one.ask(address)
    assert caught.value.data["ran"] == "no"
    assert {line["code"] for line in logged if line["log_level"] == "warning"} == {"wrong_certificate"}
    assert not two.peers.connections()


async def test_a_listener_with_a_wrong_certificate_is_refused(nodes, cluster, tmp_path):
    one = await client(nodes, tls(cluster, "asking.example"))
    for number, made in enumerate((expired(authority(tmp_path / "a"), tmp_path), tls(authority(tmp_path / "b"), "two.example"))):
        two = await nodes.start(Service(echo=echo), number=20 + number, net=sockets.Sockets(made), secret=b"")
        with pytest.raises(errors.WrongCertificate):
            await one.ask(network.Address(two.incarnation, two.address.host, two.address.port, "two.example"))


async def test_the_dialled_one_must_be_the_server_it_is_said_to_be(nodes, cluster, listening):
    two, address = await serve(nodes, listening)
    one = await client(nodes, tls(cluster, "careful.example"))
    with pytest.raises(errors.WrongCertificate, match="mismatch"):
        await one.ask(network.Address(two.incarnation, address.host, address.port, "three.example"))
    with pytest.raises(errors.WrongCertificate):
        await one.ask(network.Address(two.incarnation, address.host, address.port))


async def test_without_tls_nobody_gets_in_where_it_is_asked_for(nodes, listening):
    two, address = await serve(nodes, listening)
    one = await nodes.start(number=1, secret_of=lambda _address: b"")
    with pytest.raises(errors.Unreachable):
        await one.ask(network.Address(two.incarnation, address.host, address.port))


async def test_an_older_tls_is_not_spoken(nodes, cluster, listening):
    _two, address = await serve(nodes, listening)
    made = tls(cluster, "old.example")
    made.dialling.minimum_version = ssl.TLSVersion.TLSv1_2
    made.dialling.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((errors.WrongCertificate, errors.Unreachable)):
        await (await client(nodes, made)).ask(address)


def test_files_that_are_no_certificates(tmp_path):
    bad, missing = tmp_path / "x", tmp_path / "missing"
    bad.write_text("nothing")
    with pytest.raises(errors.WrongCertificate, match="cannot be read"):
        sockets.Tls.load(bad, bad, bad)
    with pytest.raises(errors.WrongCertificate, match=f"there is no {missing}: copy there"):
        sockets.Tls.load(bad, missing, bad)


def test_a_server_hears_at_its_start_that_others_would_refuse_it(cluster, tmp_path):
    tls(cluster, "right.example").check("right.example")
    for made, server in (
        (tls(cluster, "late.example", now=datetime.now(UTC) - timedelta(days=10), days=5), "late.example"),
        (tls(cluster, "misnamed.example"), "right.example"),
        (of_another_authority(cluster, tmp_path), "one.example"),
    ):
        with pytest.raises(errors.WrongCertificate, match=f"none of server {server} in this cluster: .*: issue it anew"):
            made.check(server)


async def test_a_port_that_is_taken():
    listener = await sockets.Sockets().listen("127.0.0.1", 0, kit.Stranger)
    with pytest.raises(errors.PortInUse, match="choose another"):
        await sockets.Sockets().listen("127.0.0.1", listener.port, kit.Stranger)
    with pytest.raises(errors.StartupError):
        await sockets.Sockets().listen("203.0.113.1", 0, kit.Stranger)
    await listener.close()
    await listener.close()


def test_all_of_it_on_the_loop_of_production(cluster, listening, tmp_path):
    async def talk():
        nodes = kit.Nodes()
        try:
            two, address = await serve(nodes, listening)
            assert await (await client(nodes, tls(cluster, "fast.example"))).ask(address) == b"\x80"
            for wrong in (without_certificate, of_another_authority):
                one = await nodes.start(
                    number=7, net=sockets.Sockets(wrong(cluster, tmp_path)), secret=b"", secret_of=lambda _address: b""
                )
                with pytest.raises(errors.WrongCertificate):
                    await one.ask(address)
            plain, other = await nodes.start(Service(echo=echo), number=8), await nodes.start(number=9)
            assert await other.ask(plain) == b"\x80" and two
        finally:
            await nodes.stop()

    uvloop.run(talk())
