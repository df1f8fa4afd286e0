"""What went wrong with a server, in words; and waiting for sockets."""

from __future__ import annotations

import socket
import ssl
import threading

import pytest

from callboard import errors
from callboard.ensembles import address, client, connection, logins, sockets
from callboard.rpc import certs


def wrapped(cause):
    """An error as the library wraps it."""
    try:
        try:
            raise cause
        except OSError as error:
            raise RuntimeError("socket connection error") from error
    except RuntimeError as error:
        return error


def test_what_is_said_of_a_server():
    said = [
        sockets.described("h:1", wrapped(ConnectionRefusedError(111, "Connection refused"))),
        sockets.described("h:1", TimeoutError()),
        sockets.described("h:1", RuntimeError()),
        sockets.described("h:1", wrapped(ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"))),
    ]
    assert said[:3] == ["h:1: connection refused", "h:1 is silent", "h:1 cut the connection"]
    assert said[3].startswith("TLS with h:1: ") and "drop tls=true" in said[3]


def test_only_what_stays_wrong_is_a_misfit():
    assert not sockets.misfit(wrapped(ConnectionResetError(104, "reset")))
    assert not sockets.misfit(wrapped(ssl.SSLEOFError(8, "eof")))


def test_it_waits_until_a_socket_can_be_read():
    one, other = socket.socketpair()
    with one, other:
        of = sockets.Sockets(None)
        assert of.select([one], [], [], 0) == ([], [], [])
        assert of.select([one], [other], [], 1) == ([], [other], [])
        other.send(b"x")
        assert of.select([one], [], [], None) == ([one], [], [])


def test_files_that_cannot_be_used(tmp_path):
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    made = certs.init(tmp_path)
    for options, why in (
        (f"ca={tmp_path}/none", "cannot be read .No such file"),
        (f"ca={junk}", "are no certificates and key in PEM"),
        (f"cert={made.certificate}&key={junk}", "are no certificates and key in PEM"),
    ):
        with pytest.raises(errors.InvalidSetting, match=why):
            client.Client(address.parsed(f"zookeeper://h?tls=true&{options}"))
    assert sockets.encryption(address.parsed(f"zookeeper://h?tls=true&ca={made.certificate}")) is not None


def test_a_request_for_another_connection_is_not_sent():
    """It would else go out on the next one, when everybody believes that it was not applied."""
    of = connection.Connection(address.parsed("zookeeper://127.0.0.1:1"), 3, lambda link: None)
    came = []

    class Answer:
        def set(self, value=None):
            came.append(value)

        set_exception = set

    handler, kazoo = of._handler, of._client
    handler._read_sock, handler._write_sock = socket.socketpair()
    with handler._read_sock, handler._write_sock:
        kazoo._state = "CONNECTED"
        handler.number = 2
        of.send(object(), Answer(), 1)
        handler._send_request(1, 1)
    assert [type(each).__name__ for each in came] == ["ConnectionLoss"] and not kazoo._queue


def test_a_client_of_nobody_says_so_and_leaves_nothing(tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        before = threading.active_count()
        one = client.Client(address.parsed(f"zookeeper://u:secret@127.0.0.1:{silent.getsockname()[1]}"), 3)
        with pytest.raises(errors.StoreUnavailable, match=r"did not answer within 0\.1 s") as away:
            one.start(0.1)
    assert "secret" not in str(away.value) and threading.active_count() <= before


def test_an_exchange_that_is_none():
    with pytest.raises(logins.NoSasl):
        logins.exchange("u", "p", lambda token: None)
    with pytest.raises(logins.NoSasl):
        logins.exchange("u", "p", lambda token: b"what?")
    asked = []

    def ask(token):
        asked.append(token)
        if len(asked) > 1:
            raise ConnectionResetError("refused")
        return b'realm="zk-sasl-md5",nonce="abc",charset=utf-8,algorithm=md5-sess,qop="auth"'

    with pytest.raises(ConnectionResetError):
        logins.exchange("app", "secret", ask)
    assert b'username="app"' in asked[1] and b"secret" not in asked[1]
