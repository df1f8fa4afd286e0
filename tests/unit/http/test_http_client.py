"""Asking several gateways: the next one after a failure, pauses when all failed, and no second try of what may have been done."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import msgspec
import pytest

from callboard import errors
from callboard.http import client, server


class Gateway:
    """An ASGI application that answers by a list of steps (the last one for good), and notes what it was asked."""

    def __init__(self, *steps: object) -> None:
        self.steps = list(steps) or [200]
        self.asked: list[tuple[str, str, str, bytes]] = []
        self.url = ""

    async def __call__(self, scope, receive, send) -> None:
        body = (await receive())["body"]
        headers = dict(scope["headers"])
        path = scope["path"] + ("?" + scope["query_string"].decode() if scope["query_string"] else "")
        self.asked.append((scope["method"], path, headers[b"host"].decode(), body))
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if step == "lose":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"99")]})
            await send({"type": "http.response.body", "body": b"{", "more_body": True})
            return  # uvicorn closes the connection on an answer that has no end
        if step == "hang":
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            step = 200
        status, answer = step if isinstance(step, tuple) else (step, b"{}")
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % len(answer))]})
        await send({"type": "http.response.body", "body": answer})


@pytest.fixture
async def serve():
    """Start a gateway; it ends with the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(*steps: object, host: str = "127.0.0.1", port: int = 0) -> Gateway:
            made = Gateway(*steps)
            serving = server.Server(made, host, port)
            await serving.start()
            stack.push_async_callback(serving.stop)
            made.url = serving.url
            return made

        yield start


@pytest.fixture
async def connect():
    """Make a client; it is closed with the test."""
    async with contextlib.AsyncExitStack() as stack:

        def make(*urls: str, resolve: client.Resolve | None = None, **bounds: float) -> client.Gateways:
            made = client.Gateways(urls, {"Authorization": "Bearer x"}, resolve, **bounds)
            stack.push_async_callback(made.close)
            return made

        yield make


def problem(code: str, status: int, **data: object) -> tuple[int, bytes]:
    return status, msgspec.json.encode({"code": code, "status": status, "detail": "why", "retryable": True, **data})


def unused() -> str:
    """The URL of a port on which nobody listens."""
    listener = server.bind("127.0.0.1", 0)
    with listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


async def test_a_good_answer_is_returned(serve, connect):
    gateway = await serve((200, b'{"a":1}'))
    asking = connect(gateway.url)
    assert await asking.ask("POST", "/v1/x", query=[("a", "b c"), ("d", "é&")], body=b"body") == b'{"a":1}'
    host = gateway.url.removeprefix("http://")
    assert gateway.asked == [("POST", "/v1/x?a=b+c&d=%C3%A9%26", host, b"body")]
    assert asking.retries == 0


async def test_the_next_url_is_asked_when_one_does_not_answer(serve, connect):
    gateway = await serve()
    asking = connect(unused(), gateway.url)
    for _ in range(4):
        await asking.ask("GET", "/")
    assert len(gateway.asked) == 4
    assert asking.retries <= 1, "what answers is kept"


async def test_addresses_of_one_name_are_tried_in_turn(serve, connect):
    first = await serve(503, host="127.0.0.1")
    port = int(first.url.rpartition(":")[2])
    second = await serve(200, host="127.0.0.2", port=port)

    async def resolve(host: str, port: int) -> list[str]:
        assert host == "gateways.example"
        return ["127.0.0.1", "127.0.0.2", "127.0.0.3"]

    asking = connect(f"http://gateways.example:{port}", resolve=resolve)
    for _ in range(3):
        await asking.ask("GET", "/")
    assert [host for _, _, host, _ in second.asked] == [f"gateways.example:{port}"] * 3
    assert len(first.asked) <= 1


async def test_a_moved_name_is_resolved_again(serve, connect):
    gateway = await serve()
    port = int(gateway.url.rpartition(":")[2])
    answers = [["127.0.0.9"], ["127.0.0.1"]]

    async def resolve(host: str, port: int) -> list[str]:
        return answers.pop(0) if len(answers) > 1 else answers[0]

    asking = connect(f"http://gateways.example:{port}", resolve=resolve)
    assert await asking.ask("GET", "/") == b"{}"
    assert asking.retries == 1


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_gateways_that_are_away_for_a_moment_are_asked_again(serve, connect, status):
    gateway = await serve(status, status, 200)
    asking = connect(gateway.url)
    assert await asking.ask("GET", "/") == b"{}"
    assert asking.retries == 2


async def test_a_lost_answer_is_asked_for_again(serve, connect):
    gateway = await serve("lose", (200, b"[]"))
    assert await connect(gateway.url).ask("GET", "/") == b"[]"


async def test_a_silent_gateway_is_left_for_the_next(serve, connect):
    gateways = [await serve("hang"), await serve("hang", 200)]
    asking = connect(*(gateway.url for gateway in gateways), patience=0.1)
    gateways[0].steps = ["hang"]
    assert await asking.ask("GET", "/") == b"{}"


async def test_what_may_have_been_done_is_not_repeated(serve, connect):
    for steps in (["lose", 200], [(502, b""), 200], [problem("store_unavailable", 503, unknown=True), 200]):
        gateway = await serve(*steps)
        with pytest.raises(errors.CallboardError):
            await connect(gateway.url).ask("POST", "/", repeatable=False)
        assert len(gateway.asked) == 1


async def test_what_surely_was_not_done_is_repeated(serve, connect):
    gateway = await serve(problem("store_full", 503), 200)
    assert await connect(unused(), gateway.url).ask("POST", "/", repeatable=False) == b"{}"
    assert len(gateway.asked) == 2


async def test_problems_become_the_errors_they_name(serve, connect):
    gateway = await serve(problem("id_conflict", 409, id="x", state="running"))
    with pytest.raises(errors.IdConflict, match="why") as caught:
        await connect(gateway.url).ask("GET", "/")
    assert caught.value.data == {"status": 409, "id": "x", "state": "running"}


async def test_problems_of_a_newer_gateway_are_errors_still(serve, connect):
    gateway = await serve(problem("of_tomorrow", 418))
    with pytest.raises(errors.CallboardError, match="why"):
        await connect(gateway.url).ask("GET", "/")


async def test_an_answer_of_something_else_is_named(serve, connect):
    gateway = await serve((404, b"<html>"))
    with pytest.raises(errors.CallboardError, match="not as a gateway does"):
        await connect(gateway.url).ask("GET", "/")


async def test_giving_up_takes_no_longer_than_allowed(connect):
    asking = connect(unused(), timeout=0.3)
    began = time.monotonic()
    with pytest.raises(errors.Unreachable, match="check that it runs"):
        await asking.ask("GET", "/")
    assert time.monotonic() - began < 5
    assert asking.retries >= 1


async def test_giving_up_on_a_full_store_says_so(serve, connect):
    gateway = await serve(problem("store_full", 503))
    with pytest.raises(errors.StoreFull):
        await connect(gateway.url, timeout=0.2).ask("GET", "/")


async def test_what_a_gateway_said_is_told_though_a_later_try_ran_out_of_time(serve, connect):
    gateway = await serve(problem("store_unavailable", 503), "hang")
    with pytest.raises(errors.StoreUnavailable, match="why"):
        await connect(gateway.url, timeout=1.0).ask("GET", "/")
    assert len(gateway.asked) == 2


async def test_a_name_that_is_lost_for_a_moment_keeps_its_addresses(serve, connect, monkeypatch):
    gateway = await serve()
    port = int(gateway.url.rpartition(":")[2])
    answers = [["127.0.0.1"], []]

    async def resolve(host: str, port: int) -> list[str]:
        return answers.pop(0) if answers else []

    monkeypatch.setattr(client, "RESOLVE_SECONDS", 0)
    asking = connect(f"http://gateways.example:{port}", resolve=resolve, timeout=1)
    for _ in range(3):
        assert await asking.ask("GET", "/") == b"{}"


async def test_requests_over_the_limit_wait_for_their_turn(serve, connect, monkeypatch):
    monkeypatch.setattr(client, "REQUESTS", 2)
    gateway = await serve()
    asking = connect(gateway.url)
    assert await asyncio.gather(*(asking.ask("GET", "/") for _ in range(20))) == [b"{}"] * 20
    assert asking.retries == 0


async def test_a_name_without_addresses_is_unreachable(connect):
    async def resolve(host: str, port: int) -> list[str]:
        return []

    with pytest.raises(errors.Unreachable, match="has an address"):
        await connect("http://gateways.example", resolve=resolve, timeout=0.1).ask("GET", "/")


@pytest.mark.parametrize("url", ["", "127.0.0.1:8321", "ftp://x", "http://", "http://h:port", "http://h/?q", "http://a:b@h"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(errors.InvalidSetting, match="not a gateway's URL"):
        client.Gateways([url], {})


def test_no_url_is_refused():
    with pytest.raises(errors.InvalidSetting, match="at least one"):
        client.Gateways([], {})


async def test_a_url_may_have_a_path(serve, connect):
    gateway = await serve()
    await connect(gateway.url + "/callboard/").ask("GET", "/v1/jobs")
    assert gateway.asked[0][1] == "/callboard/v1/jobs"


def test_the_budget_allows_some_retries_at_once_and_then_paces_them():
    budget = client.Budget()
    pauses = [budget.take() for _ in range(120)]
    assert not any(pauses[:100])
    assert pauses[100:] == sorted(pauses[100:])
    assert 1 < pauses[-1] <= 2


async def test_requests_go_on_at_once_when_gateways_come_back_after_all_were_gone(serve, connect):
    kept = socket.socket()  # Bound, and not listening: whoever connects is refused, and nobody else gets the port.
    kept.bind(("127.0.0.1", 0))
    port = kept.getsockname()[1]
    asking = connect(f"http://127.0.0.1:{port}", *(unused() for _ in range(3)))
    waiting = [asyncio.create_task(asking.ask("GET", "/")) for _ in range(client.REQUESTS)]
    async with asyncio.timeout(30):
        with kept:
            while asking.retries < 4 * client.BUDGET_BURST:  # Nothing tells but the count.
                await asyncio.sleep(0.01)
        await serve(port=port)
        back = time.monotonic()
        await asyncio.gather(*waiting)
    assert time.monotonic() - back < 2 * client.MOST_PAUSE_SECONDS


async def test_retries_of_what_gateways_had_work_with_are_paced(serve, connect, monkeypatch):
    taken: list[client.Budget] = []

    def take(budget: client.Budget) -> float:
        taken.append(budget)
        return 0.0

    monkeypatch.setattr(client.Budget, "take", take)
    gateway = await serve(503, 503, 200)
    await connect(gateway.url, unused()).ask("GET", "/")
    assert len(taken) == 2


async def test_a_handshake_that_fails_is_work_for_somebody(serve, connect, monkeypatch):
    taken: list[client.Budget] = []

    def take(budget: client.Budget) -> float:
        taken.append(budget)
        return 0.0

    monkeypatch.setattr(client.Budget, "take", take)
    gateway = await serve()
    with pytest.raises(errors.Unreachable):
        await connect(gateway.url.replace("http:", "https:"), timeout=0.2).ask("GET", "/")
    assert taken


async def test_a_gateway_that_lives_and_reads_nothing_for_long_is_not_given_up(connect, monkeypatch):
    """Its kernel has no room for a big body meanwhile, however alive it is."""
    monkeypatch.setitem(client._WATCH, socket.TCP_USER_TIMEOUT, 300)
    body = b"x" * (4 << 20)
    read: list[int] = []

    async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2)
        head = await reader.readuntil(b"\r\n\r\n")
        read.append(len(await reader.readexactly(len(body))))
        assert b"POST / " in head
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(busy, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        assert await connect(f"http://127.0.0.1:{port}").ask("POST", "/", body=body, repeatable=False) == b"{}"
    assert read == [len(body)]
