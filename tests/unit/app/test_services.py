"""Declared services, and calling names from an app: in a node, from other loops and threads, and where nobody can be reached."""

from __future__ import annotations

import abc
import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from callboard import Call, Callboard, ServiceError, errors, method
from callboard.app import exposure, services
from callboard.jobs import queue as queues
from callboard.jobs.engines import memory
from callboard.kit import codec
from callboard.roles import service
from tests.unit import inhouse

app = Callboard("shop")


class Receipt(msgspec.Struct):
    amount: int
    at: datetime


@app.service("billing", active="all")
class Billing:
    @method(idempotent=True)
    async def balance(self, call: Call) -> int:
        return 41

    async def charge(self, call: Call, amount: int) -> Receipt:
        return Receipt(amount, datetime(2026, 1, 2, tzinfo=UTC))

    @method
    async def photo(self) -> bytes:
        return b"\xff\x00"

    @method
    async def domain(self, call: Call) -> str:
        return call.domain


@pytest.fixture
async def node() -> AsyncIterator[inhouse.Inhouse]:
    found = inhouse.Inhouse()
    hosted = service.Service(app.services["billing"], clock=found.clock)
    found.table.add(hosted)
    await hosted.start()
    app.call_through(found)
    yield found
    app.call_through(None)
    await hosted.stop()


# Declaring


def test_a_declared_service_is_told_of():
    declared = app.services["billing"]
    assert (declared.label, declared.active, declared.cls) == ("billing", "all", Billing)
    assert set(declared.methods) == {"balance", "charge", "photo", "domain"}
    assert declared.offer.idempotent == ("balance",)
    assert "billing" in app.services and len(app.services) == 1


class Empty:
    async def hidden(self) -> None: ...


class Needy:
    def __init__(self, url: str) -> None: ...

    @method
    async def get(self) -> int:
        return 1


class Abstract(abc.ABC):
    @method
    async def get(self) -> int:
        return 1

    @abc.abstractmethod
    def more(self) -> None: ...


@pytest.mark.parametrize(
    "declare, said",
    [
        (lambda: app.service("billing")(Billing), "declared twice"),
        (lambda: app.service("Billing")(Billing), "not a label"),
        (lambda: app.service("gateway")(Billing), "Callboard's own roles"),
        (lambda: app.service("b", active="two")(Billing), "'one' or 'all'"),  # type: ignore[arg-type]
        (lambda: app.service("b", order=1)(Billing), "no option 'order'"),
        (lambda: app.service(Billing), "give it a name"),  # type: ignore[arg-type]
        (lambda: app.service("b")(Empty), "mark its methods"),
        (lambda: app.service("b")(Needy), "without arguments"),
        (lambda: app.service("b")(Abstract), "is abstract"),
        (lambda: app.service("b")(lambda: None), "is not a class"),  # type: ignore[type-var]
    ],
)
def test_a_declaration_that_cannot_work_says_so_at_once(declare, said):
    with pytest.raises(errors.InvalidInput, match=said):
        declare()
    assert set(app.services) == {"billing"}


# Calling


async def test_results_are_as_the_declaration_says(node):
    assert await app.call("billing", "balance") == 41
    assert await app.call("billing@acme", "charge", amount=5) == Receipt(5, datetime(2026, 1, 2, tzinfo=UTC))
    assert await app.call("billing", "photo") == b"\xff\x00"


async def test_a_name_is_used_like_an_object(node):
    billing = app.name("billing@team.acme", timeout=5)
    assert await billing.domain() == "team.acme"
    assert (await billing.charge(amount=7)).amount == 7
    assert repr(billing) == "<name billing@team.acme>"
    with pytest.raises(AttributeError, match="_own"):
        billing._own  # noqa: B018
    with pytest.raises(errors.InvalidName):
        app.name("Billing!")


async def test_an_exact_instance_is_called(node):
    assert await app.call(f"billing/{inhouse.INCARNATION}", "balance") == 41
    with pytest.raises(errors.UnknownName):
        await app.call(f"billing/{'b' * 32}", "balance")


async def test_another_app_knows_plain_values(node):
    other = Callboard("other")
    other.call_through(node)
    assert await other.call("billing", "charge", amount=5) == {"amount": 5, "at": "2026-01-02T00:00:00Z"}
    with pytest.raises(errors.InvalidArguments, match="amount") as caught:
        await other.call("billing", "charge", amount="much")
    assert caught.value.data["ran"] == "no"


async def test_wrong_arguments_of_a_declared_method_do_not_leave(node):
    with pytest.raises(errors.InvalidArguments, match=r"billing\.charge"):
        await app.call("billing", "charge", amount="much")
    with pytest.raises(errors.TooLarge):
        await app.call("billing", "unknown", x="y" * exposure.MAX_BYTES)
    assert node.calls == 0
    with pytest.raises(errors.UnknownMethod, match="balance, charge"):
        await app.call("billing", "unknown")


async def test_an_answer_that_is_not_as_declared_here_is_told(node):
    class Newer:
        @method
        async def balance(self) -> str:
            return "a lot"

    node.table.remove(node.table.find("billing"))
    newer = service.Service(services.Declared("billing", "all", Newer), clock=node.clock)
    node.table.add(newer)
    await newer.start()
    with pytest.raises(errors.InvalidResult, match=r"billing\.balance answered otherwise") as caught:
        await app.call("billing", "balance")
    assert caught.value.data["ran"] == "yes"
    await newer.stop()


class Broke(ServiceError):
    code = "broke"

    def __init__(self, missing: int) -> None:
        super().__init__(f"{missing} are missing", missing=missing)


async def test_errors_are_of_the_services_class_where_that_is_known():
    class Travelled(inhouse.Inhouse):
        async def call(self, name: str, method: str, args: bytes, **how: Any) -> bytes:
            raise errors.restored(method, "3 are missing", False, {"missing": 3, "ran": "yes"})

    other = Callboard("other")
    other.call_through(Travelled())
    with pytest.raises(Broke, match="3 are missing") as caught:
        await other.call("bank", "broke")
    assert caught.value.data == {"missing": 3, "ran": "yes"}
    with pytest.raises(ServiceError) as unknown:
        await other.call("bank", "elsewhere")
    assert (type(unknown.value), unknown.value.code) == (ServiceError, "elsewhere")


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), "10", None])
async def test_a_timeout_is_seconds(node, seconds):
    with pytest.raises(errors.InvalidInput, match="timeout"):
        await app.name("billing", timeout=seconds).balance()
    with pytest.raises(errors.InvalidInput, match="timeout"):
        await app.broadcast("service:billing", "balance", timeout=seconds)


async def test_calls_from_other_loops_hop_to_the_nodes(node):
    here = asyncio.get_running_loop()
    found = await asyncio.to_thread(lambda: asyncio.run(app.call("billing", "balance")))
    assert (found, node.loop) == (41, here)
    outcomes = await asyncio.to_thread(lambda: asyncio.run(app.broadcast("service:billing", "balance")))
    assert [(each.status, each.result) for each in outcomes] == [("ok", 41)]


async def test_a_call_from_another_loop_ends_with_its_caller(node, eventually):
    ended = threading.Event()

    class Waiting:
        @method
        async def forever(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

    hosted = service.Service(services.Declared("waiting", "all", Waiting), clock=node.clock)
    node.table.add(hosted)
    await hosted.start()

    async def impatient() -> None:
        async with asyncio.timeout(0.5):
            await app.call("waiting", "forever")

    with pytest.raises(TimeoutError):
        await asyncio.to_thread(lambda: asyncio.run(impatient()))
    await eventually(ended.is_set)
    await hosted.stop()


async def test_broadcasts_tell_what_came_of_each(node):
    (good,) = await app.broadcast("service:billing", "charge", {"amount": 1})
    assert (good.status, good.result["amount"], good.code) == ("ok", 1, None)
    (bad,) = await app.broadcast("service:billing", "charge")
    assert (bad.status, bad.result, bad.code) == ("error", None, "invalid_arguments")
    with pytest.raises(errors.InvalidInput, match="mode 'some' is unknown: 'all', 'first', 'elect'"):
        await app.broadcast("service:billing", "balance", mode="some")  # type: ignore[arg-type]


async def test_without_a_way_it_says_what_to_do():
    lonely = Callboard("lonely")
    with pytest.raises(errors.InvalidInput, match=r"app\.connect"):
        await lonely.call("billing", "balance")
    queue = queues.Queue(memory.open("memory:"))
    async with lonely.connect(queue):
        with pytest.raises(errors.InvalidInput, match=r"app\.connect"):
            await lonely.call("billing", "balance")


async def test_a_store_does_not_take_a_nodes_calls_away(node):
    async with app.connect(queues.Queue(memory.open("memory:"))):
        assert await app.call("billing", "balance") == 41


def test_a_node_that_is_gone_answers_nobody():
    loop = asyncio.new_event_loop()
    reach = services.Reach(inhouse.Inhouse(), loop)
    loop.close()
    with pytest.raises(errors.Unreachable) as caught:
        asyncio.run(reach.call("billing", "balance", codec.pack_trusted({}), 1))
    assert caught.value.data["ran"] == "no"
