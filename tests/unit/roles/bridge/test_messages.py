"""What a message says: pure."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from callboard.app import Callboard
from callboard.jobs import model, replies, submission
from callboard.jobs.model import State
from callboard.kit import clock, uuid7
from callboard.roles.bridge import messages
from callboard.roles.bridge.destinations import Destination

NOW = 1_800_000_000_000_000
SENT = NOW - 3 * 86_400 * clock.SECOND
HEADERS = {"message-id": "ID:x-1:2:3", "timestamp": str(SENT // 1000)}
PLAIN = Destination("callboard.acme.mail", "acme", "mail")
FIXED = Destination("orders", "main", "default", "shop.order")
app = Callboard("shop")


@app.job
async def order(n: int = 0) -> None: ...


def read(body: object, meant: Destination = PLAIN, now: int = NOW, **headers: str) -> Any:
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    said = {**HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return messages.read(said, data, meant, app.kinds, now, "b:61613")


def test_a_message_is_a_job_of_its_destination() -> None:
    found = read({"kind": "shop.order", "args": {"n": 1}, "priority": 2})
    assert (found.job.domain, found.job.queue, found.job.priority) == ("acme", "mail", 2)
    assert (found.job.state, found.job.run_at, found.job.submitted_at) == (State.AVAILABLE, NOW, NOW)
    assert found.sent == SENT


def test_a_fixed_kind_takes_the_body_as_arguments() -> None:
    assert read({"n": 1}, FIXED).job.args == read({"kind": "shop.order", "args": {"n": 1}}).job.args
    assert read({"m": 1}, FIXED).code == "invalid_arguments"
    assert read([1], FIXED).code == "invalid_input"


def test_the_same_message_is_the_same_job_at_each_delivery() -> None:
    first, again = read({"kind": "shop.order"}), read({"kind": "shop.order"}, now=NOW + 10**12)
    assert first.job.id == again.job.id
    assert first.job.digest == again.job.digest
    assert uuid7.valid(first.job.id)
    assert uuid7.milliseconds(first.job.id) * 1000 == SENT == first.sent
    assert not model.expired(first.job.id, first.sent)
    assert read({"kind": "shop.order"}, message_id="ID:other").job.id != first.job.id


@pytest.mark.parametrize("stamp", ["", "0", "-1", "now", "9" * 30])
def test_a_message_without_a_time_is_the_same_job_too(stamp: str) -> None:
    first, again = read({"kind": "a.b"}, timestamp=stamp), read({"kind": "a.b"}, timestamp=stamp, now=NOW + 10**9)
    assert first.job.id == again.job.id
    assert not model.expired(first.job.id, first.sent)


def test_its_sender_may_name_the_job() -> None:
    id = uuid7.text(uuid7.of(SENT // 1000, b"0123456789abcdef"))
    assert uuid7.text(read({"kind": "a.b"}, callboard_id=id).job.id) == id
    assert uuid7.text(read({"kind": "a.b", "id": id}).job.id) == id
    assert read({"kind": "a.b", "id": id}, callboard_id=uuid7.text(uuid7.make(NOW))).code == "invalid_id"
    assert read({"kind": "a.b"}, callboard_id="12").code == "invalid_id"


def test_it_is_the_same_submission_as_one_by_http() -> None:
    said = submission.Submission(kind="shop.order", args={"n": 1}, tags=("x",))
    assert (
        read({"kind": "shop.order", "args": {"n": 1}, "tags": ["x"]}).job.digest == submission.build(said, app.kinds, NOW).digest
    )


def test_a_delay_counts_from_the_message_s_time() -> None:
    assert read({"kind": "a.b", "delay": 60}).job.state is State.AVAILABLE
    later = read({"kind": "a.b", "delay": 60}, timestamp=str(NOW // 1000)).job
    assert (later.state, later.run_at) == (State.SCHEDULED, NOW + 60 * clock.SECOND)


def test_a_message_names_no_other_domain() -> None:
    assert read({"kind": "a.b", "domain": "acme"}).job.domain == "acme"
    assert "names domain 'main'" in read({"kind": "a.b", "domain": "main"}).reason


def test_what_asks_for_a_reply_says_so_in_the_job() -> None:
    job = read({"kind": "a.b", "meta": {"mine": "1"}}, reply_to="/queue/r", correlation_id="c").job
    assert job.meta == {"mine": "1", replies.TO: "/queue/r", replies.CORRELATION: "c", replies.BROKER: "b:61613"}
    assert replies.owed(job)
    assert not replies.owed(read({"kind": "a.b"}, correlation_id="c").job)
    assert read({"kind": "a.b"}, reply_to="x" * 2000).code == "invalid_input"
    assert "Callboard's own" in read({"kind": "a.b", "meta": {replies.TO: "/queue/r"}}).reason


def test_the_reply_is_one_a_run_and_never_too_old() -> None:
    job = read({"kind": "a.b"}, reply_to="/queue/r").job
    put, again = replies.put(job, NOW), replies.put(job, NOW + 5)
    assert put.job.id == again.job.id != replies.put(msgspec.structs.replace(job, run=2), NOW).job.id
    assert put.job.digest == again.job.digest
    assert uuid7.valid(put.job.id)
    assert not model.expired(put.job.id, put.now)
    assert not replies.owed(put.job)


@given(some.text())
def test_the_queue_of_a_broker_s_replies_is_a_queue(broker: str) -> None:
    from callboard.kit import grammar

    assert grammar.check_label(replies.queue(broker), "queue") != replies.queue(broker + "x")


@given(body=some.binary(max_size=60), meant=some.sampled_from([PLAIN, FIXED]), id=some.text(max_size=40))
def test_garbage_never_raises(body: bytes, meant: Destination, id: str) -> None:
    found = messages.read({"message-id": id, "timestamp": id, "callboard-id": id}, body, meant, app.kinds, NOW, "b")
    assert isinstance(found, messages.Bad)
    assert "\n" not in found.reason


@given(
    some.recursive(
        some.none() | some.booleans() | some.integers() | some.text(max_size=5),
        lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=8), inner, max_size=3),
    )
)
def test_json_that_means_nothing_never_raises(body: Any) -> None:
    for field in ("args", "priority", "delay", "run_at", "tags", "meta", "lane", "id", "queue"):
        messages.read(HEADERS, msgspec.json.encode({"kind": "a.b", field: body}), PLAIN, app.kinds, NOW, "b")


def test_deep_nesting_is_refused() -> None:
    assert read(b'{"kind": "a.b", "args": ' + b"[" * 100_000).code == "invalid_input"


def test_a_message_without_any_id_is_refused() -> None:
    """Two of them would be one job."""
    assert "neither" in read({"kind": "shop.order"}, message_id="").why
    named = read({"kind": "shop.order"}, message_id="", callboard_id=uuid7.text(uuid7.make(SENT)))
    assert isinstance(named, messages.Read)


@pytest.mark.parametrize("value", ["/queue/a\0b", "/queue/a\nb", "a\rb"])
def test_where_a_reply_goes_has_no_control_characters(value: str) -> None:
    assert "control characters" in read({"kind": "shop.order"}, reply_to=value).why
    assert "control characters" in read({"kind": "shop.order"}, reply_to="/queue/a", correlation_id=value).why


def test_what_an_app_s_own_check_raises_is_a_reason() -> None:
    class Odd:
        def __contains__(self, key: object) -> bool:
            raise RuntimeError("odd")

        def get(self, key: str) -> Any:
            raise RuntimeError("odd\n\nindeed")

    found = messages.read(HEADERS, b'{"kind": "shop.order"}', PLAIN, Odd(), NOW, "b")  # type: ignore[arg-type]
    assert isinstance(found, messages.Bad)
    assert found.reason == "invalid_input: the message cannot be read: RuntimeError: odd indeed"
