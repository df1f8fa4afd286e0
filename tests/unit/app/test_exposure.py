"""Which methods are exposed, how they run, and what their callers are told."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from datetime import datetime
from typing import Any

import pytest

from callboard import Call, CallboardError, ServiceError, errors, method
from callboard.app import exposure
from callboard.kit import codec
from callboard.rpc import serving

CALL = serving.Call("shop@acme", "acme", "buy", 3, "b" * 32, 0, {})


@dataclasses.dataclass
class Receipt:
    id: int
    at: datetime | None = None


class OutOfStock(ServiceError):
    code = "out_of_stock"


class Shop:
    """A service with a method of each kind."""

    @method(idempotent=True)
    async def price(self, item: str, pieces: int = 1) -> int:
        return len(item) * pieces

    async def buy(self, call: Call, item: str, *, gift: bool = False) -> Receipt:
        return Receipt(call.epoch)

    @method
    def where(self) -> str:
        return threading.current_thread().name

    @method
    async def fail(self, how: str) -> None:
        raise FAILURES[how]

    @method
    def fail_in_thread(self, how: str) -> None:
        raise FAILURES[how]

    @method
    async def give(self, what: str) -> Any:
        return GIFTS[what]

    @method
    async def count(self) -> int:
        return "many"  # type: ignore[return-value]

    @method
    async def nothing(self) -> None: ...

    async def hidden(self) -> None: ...

    async def helper(self, other: Unknown) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    def _own(self, call: Call) -> None: ...


FAILURES: dict[str, BaseException] = {
    "service": OutOfStock("none left\nat all", left=0),
    "known": errors.NotFound("no such item"),
    "nested": errors.NotActive("the bank", ran="no"),
    "other": ValueError("a\nb"),
    "dumb": KeyError(),
    "exit": SystemExit(3),
    "stop": StopIteration(),
    "cancelled": asyncio.CancelledError(),
    "odd data": OutOfStock("odd", what=object(), at={1: 2}),
    "much data": OutOfStock("much", what="x" * exposure.MAX_BYTES),
}
GIFTS = {
    "nan": float("nan"),
    "object": object(),
    "big": "x" * exposure.MAX_BYTES,
    "keys": {1: {2: 3}},
    "naive": datetime(2026, 1, 1),
}


@pytest.fixture
def shop() -> dict[str, serving.Method]:
    return {name: one.bind(Shop()) for name, one in exposure.exposed(Shop, "shop").items()}


async def ask(methods: dict[str, serving.Method], name: str, **args: Any) -> Any:
    result = await methods[name].run(CALL, codec.pack_trusted(args))
    return codec.unpack(result) if result else None


def test_exposed_are_marked_methods_and_those_that_take_a_call(shop):
    assert set(shop) == {"price", "buy", "where", "fail", "fail_in_thread", "give", "count", "nothing"}
    assert {name for name, one in shop.items() if one.idempotent} == {"price"}


async def test_arguments_are_those_of_the_method(shop):
    assert await ask(shop, "price", item="pen", pieces=2) == 6
    assert await ask(shop, "price", item="pen") == 3
    assert await ask(shop, "buy", item="pen", gift=True) == {"id": 3, "at": None}
    assert await shop["nothing"].run(CALL, b"") == b""


async def test_plain_methods_run_in_a_thread(shop):
    assert await ask(shop, "where") != threading.current_thread().name


@pytest.mark.parametrize("args", [{}, {"item": 3}, {"item": "pen", "colour": "red"}, {"item": "pen", "pieces": "2"}])
async def test_wrong_arguments_are_refused_before_it_runs(shop, args):
    with pytest.raises(errors.InvalidArguments, match=r"the arguments of shop\.price") as caught:
        await ask(shop, "price", **args)
    assert caught.value.data["ran"] == "no"


@pytest.mark.parametrize("args", [b"\xc1", b"\x93\x01\x02\x03", b"\x80\x80", b"\x81\xa4item"])
async def test_arguments_that_make_no_sense_are_refused(shop, args):
    with pytest.raises(errors.InvalidArguments):
        await shop["price"].run(CALL, args)


@pytest.mark.parametrize("name", ["fail", "fail_in_thread"])
@pytest.mark.parametrize(
    "how, code, message",
    [
        ("service", "out_of_stock", "none left at all"),
        ("known", "not_found", "no such item"),
        ("nested", "not_active", "the bank"),
        ("other", "service_failed", "ValueError: a b"),
        ("dumb", "service_failed", "KeyError"),
        ("exit", "service_failed", "SystemExit: 3"),
        ("stop", "service_failed", ""),
        ("cancelled", "service_failed", "CancelledError"),
        ("odd data", "out_of_stock", "odd"),
        ("much data", "out_of_stock", "much"),
    ],
)
async def test_what_a_method_raises_reaches_the_caller(shop, name, how, code, message):
    with pytest.raises(CallboardError) as caught:
        await ask(shop, name, how=how)
    error = caught.value
    assert (error.code, error.data["ran"]) == (code, "yes")
    assert message in error.message
    assert len(codec.pack(error.data, "data")) < 1000


async def test_who_ends_a_call_ends_its_method(shop):
    class Slow:
        label = "slow"

        @method
        async def sleep(self) -> None:
            await asyncio.Event().wait()

    task = asyncio.create_task(ask(exposure.methods(Slow()), "sleep"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("what, said", [("nan", "nan"), ("object", "object"), ("big", r"2621\d\d bytes"), ("naive", "offset")])
async def test_a_result_that_cannot_be_sent_says_so(shop, what, said):
    with pytest.raises(errors.InvalidResult, match=said) as caught:
        await ask(shop, "give", what=what)
    assert caught.value.data["ran"] == "yes"
    assert await ask(shop, "give", what="keys") == {"1": {"2": 3}}


async def test_a_result_that_does_not_fit_says_so(shop):
    with pytest.raises(errors.InvalidResult, match=r"the result of shop\.count"):
        await ask(shop, "count")


def test_a_method_that_overrides_a_marked_one_is_exposed():
    class Cheap(Shop):
        async def price(self, item: str, pieces: int = 1) -> int:
            return 0

        @method
        async def nothing(self) -> None: ...

    found = exposure.exposed(Cheap, "cheap")
    assert set(found) == set(exposure.exposed(Shop, "shop"))
    assert found["price"].idempotent


def shaped(**functions: Any) -> type:
    return type("Shaped", (), functions)


async def no_annotation(self, call): ...


def test_a_marked_method_may_leave_annotations_out():
    (one,) = exposure.exposed(shaped(free=method(no_annotation)), "s").values()
    assert one.arguments.wants_context


async def star(self, call: Call, *args: int) -> None: ...


async def late(self, amount: int, call: Call) -> None: ...


async def unreadable(self, call: Call, what: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821


async def formless(self, call: Call, what: threading.Lock) -> None: ...


async def streams(self, call: Call):
    yield 1


async def fine(self, call: Call) -> None: ...


@pytest.mark.parametrize(
    "name, function, said",
    [
        ("buy", star, "write the parameters out"),
        ("buy", method(late), "make it the first parameter"),
        ("buy", unreadable, "Nowhere"),
        ("buy", formless, "cannot be used"),
        ("buy", streams, "generator"),
        ("start", fine, "the node's to call"),
        ("_buy", method(no_annotation), "public name"),
        ("käse", fine, "ASCII"),
        ("buy", staticmethod(method(fine)), "takes self"),
        ("buy", classmethod(method(fine)), "takes self"),
    ],
)
def test_what_cannot_be_exposed_is_said_with_the_mend(name, function, said):
    with pytest.raises(errors.InvalidInput, match=said) as caught:
        exposure.exposed(shaped(**{name: function}), "shop")
    assert "shop" in caught.value.message


@pytest.mark.parametrize(
    "use",
    [
        lambda: method(idempotent=1),  # type: ignore[call-overload]
        lambda: method(retries=3),  # type: ignore[call-overload]
        lambda: method(3),  # type: ignore[call-overload]
        lambda: method(shaped()),
    ],
)
def test_a_misused_mark_is_an_error(use):
    with pytest.raises(errors.InvalidInput, match="@method"):
        use()


def test_the_interface_is_names_parameters_and_marks():
    base = exposure.interface(exposure.exposed(Shop, "shop"))

    class Same(Shop):
        """Says other things of itself, and has the same methods."""

        async def price(self, item: str, pieces: int = 7) -> int:
            """Another default."""
            return 0

        price = method(idempotent=True)(price)

    class Other(Shop):
        @method(idempotent=True)
        async def price(self, item: str, number: int = 1) -> int:
            return 0

    class Unmarked(Shop):
        @method
        async def price(self, item: str, pieces: int = 1) -> int:
            return 0

    assert exposure.interface(exposure.exposed(Same, "shop")) == base
    assert len({base, *(exposure.interface(exposure.exposed(each, "shop")) for each in (Other, Unmarked))}) == 3
    assert exposure.offer("shop", "service", "one", exposure.exposed(Shop, "shop")).idempotent == ("price",)
