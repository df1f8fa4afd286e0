"""The server: an ASGI application on this loop, ports in use, and an end that waits for what was asked."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket

import pytest

from callboard import errors
from callboard.http import server

ANSWER = b"HTTP/1.1 200 OK"


class Application:
    """Answers 200 when `gate` is open; says how many requests are inside."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.cancelled = False

    async def __call__(self, scope, receive, send) -> None:
        self.entered.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled = True
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
async def application():
    return Application()


@pytest.fixture
async def serving(application):
    made = server.Server(application, "127.0.0.1", 0)
    await made.start()
    yield made
    await made.stop()


@contextlib.asynccontextmanager
async def asked(port: int):
    """A connection on which a request was sent: its reader."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    try:
        async with asyncio.timeout(10):
            yield reader
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_serves_on_a_free_port(serving):
    async with asked(serving.port) as reader:
        assert (await reader.readline()).strip() == ANSWER
    assert serving.url == f"http://127.0.0.1:{serving.port}"


@pytest.mark.parametrize(
    ("listens", "url"),
    [("0.0.0.0", "http://10.0.0.7:8321"), ("::", "http://10.0.0.7:8321"), ("10.0.0.9", "http://10.0.0.9:8321")],
)
def test_others_are_told_an_address_that_they_reach(application, listens, url):
    assert server.Server(application, listens, 8321).url_at("10.0.0.7") == url


async def test_a_port_in_use_is_named(application, serving):
    second = server.Server(application, "127.0.0.1", serving.port)
    with pytest.raises(errors.PortInUse, match=f"port {serving.port} .* which this machine gives to clients"):
        await second.start()
    await second.stop()


async def test_a_port_that_was_just_left_is_free(application, serving):
    async with asked(serving.port) as reader:
        await reader.readline()
        await serving.stop()
        again = server.Server(application, "127.0.0.1", serving.port)
        await again.start()
        await again.stop()


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
async def test_a_foreign_host_is_refused(application, host):
    with pytest.raises(errors.InvalidSetting, match="cannot listen"):
        await server.Server(application, host, 0).start()


async def test_a_port_out_of_range_is_refused(application):
    with pytest.raises(errors.InvalidSetting, match="70000"):
        await server.Server(application, "127.0.0.1", 70_000).start()


async def test_signals_stay_as_they_were(application):
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    made = server.Server(application, "127.0.0.1", 0)
    await made.start()
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == before
    await made.stop()


async def test_drain_answers_what_was_asked_and_takes_nothing_new(application, serving):
    application.gate.clear()
    async with asked(serving.port) as reader:
        await application.entered.wait()
        draining = asyncio.create_task(serving.drain(5))
        await left(serving.port)
        assert not draining.done()
        application.gate.set()
        await draining
        assert (await reader.readline()).strip() == ANSWER
        assert b"connection: close" in await reader.read()


async def test_drain_closes_idle_connections_at_once(serving):
    async with asked(serving.port) as reader:
        await reader.readuntil(b"ok")
        async with asyncio.timeout(1):
            await serving.drain(30)
            assert await reader.read() == b""


async def test_what_outlives_the_grace_time_is_cut_off(application, serving):
    application.gate.clear()
    async with asked(serving.port) as reader:
        await application.entered.wait()
        await serving.drain(0.05)
        assert application.cancelled
        assert (await reader.readline()).strip() == ANSWER, "the application had its last word"


async def test_stop_twice_and_before_start(application):
    made = server.Server(application, "127.0.0.1", 0)
    await made.stop()
    await made.stop()
    with pytest.raises(RuntimeError):
        await made.start()


async def left(port: int) -> None:
    """Return once nobody listens there any more."""
    async with asyncio.timeout(5):
        while True:
            try:
                return server.bind("127.0.0.1", port).close()
            except errors.PortInUse:
                await asyncio.sleep(0)


def test_bind_knows_ipv6():
    try:
        listener = server.bind("::1", 0)
    except errors.CallboardError:
        pytest.skip("no IPv6 here")
    assert listener.family is socket.AF_INET6
    listener.close()
