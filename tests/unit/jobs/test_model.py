"""Names, ids, tags, digests: the grammar of what a job carries."""

from __future__ import annotations

import pytest

from callboard import errors
from callboard.jobs import model
from callboard.kit import clock, uuid7

KNOWN = bytes.fromhex("0190163d8694739bb45c1b8a2e6b0a4e")
NOW = 1_750_000_000 * clock.SECOND


@pytest.mark.parametrize("value", ["f", "images.thumbnail", "App.Make_it-2", "a" * 128, "_x"])
def test_kinds(value: str) -> None:
    assert model.check_kind(value) == value


@pytest.mark.parametrize("value", ["", ".a", "a.", "-a", "a b", "a/b", "ü", "a" * 129, "a\n", 3])
def test_what_is_no_kind(value: str) -> None:
    with pytest.raises(errors.InvalidName):
        model.check_kind(value)


def test_tags_are_kept_in_order_without_repetitions() -> None:
    assert model.check_tags(("b", "größe 10%", "b", "a:1")) == ("b", "größe 10%", "a:1")
    assert model.check_tags(()) == ()


@pytest.mark.parametrize("value", ["", "a,b", "a\n", "\x00", "x" * 65, "\ud800", 5, None])
def test_what_is_no_tag(value: str) -> None:
    with pytest.raises(errors.InvalidName):
        model.check_tags(("fine", value))


def test_too_many_tags_and_a_text_for_a_list() -> None:
    tags = tuple(map(str, range(model.MAX_TAGS)))
    assert model.check_tags(tags) == tags
    with pytest.raises(errors.InvalidInput, match="17"):
        model.check_tags((*tags, "more"))
    with pytest.raises(errors.InvalidInput, match="list"):
        model.check_tags("abc")  # type: ignore[arg-type]


def test_an_id_may_lie_five_minutes_ahead() -> None:
    edge = NOW + model.FUTURE_SECONDS * clock.SECOND
    assert model.check_id(id := uuid7.make(edge), NOW) == id
    with pytest.raises(errors.InvalidId, match="future"):
        model.check_id(uuid7.make(edge + 1000), NOW)


@pytest.mark.parametrize("value", [b"", bytes(16), b"\xff" * 16, KNOWN[:15], KNOWN + b"x"])
def test_what_is_no_id(value: bytes) -> None:
    with pytest.raises(errors.InvalidId):
        model.check_id(value, NOW)


def test_an_id_expires_by_its_own_time() -> None:
    id = uuid7.make(NOW)
    edge = NOW + model.IDEMPOTENCY_SECONDS * clock.SECOND
    assert not model.expired(id, edge)
    assert model.expired(id, edge + 1)
    assert model.oldest(edge) <= id < model.oldest(edge + 1)
    assert not model.expired(bytes(16), 0)


def test_a_digest_tells_contents_apart() -> None:
    made = [
        model.digest("app.a", b"\x80"),
        model.digest("app.b", b"\x80"),
        model.digest("app.a", b"\x81"),
        model.digest("app.a", b"\x80", 1, None),
        model.digest("app.a", b"\x80", None, 1),
        model.digest("app.a", b"\x80", "1", None),
        model.digest("k" * 64, b"\x80"),
        model.digest("k" * 100, b"\x80"),
        model.digest("k" * 99 + "l", b"\x80"),
    ]
    assert len(set(made)) == len(made)
    assert {len(one) for one in made} == {16}


def test_a_digest_without_options_ignores_their_number() -> None:
    assert model.digest("app.a", b"\x80", None, None) == model.digest("app.a", b"\x80")


def test_states_have_words() -> None:
    assert model.State.AVAILABLE.word == "available"
    assert model.WORDS["cancelled"] is model.State.CANCELLED
    assert model.TERMINAL.isdisjoint(model.WAITING)
    assert {*model.TERMINAL, *model.WAITING, model.State.RUNNING} == set(model.State)


def test_stored_numbers_never_change() -> None:
    assert [(state.name, int(state)) for state in model.State] == [
        ("SCHEDULED", 1),
        ("AVAILABLE", 2),
        ("RUNNING", 3),
        ("RETRYABLE", 4),
        ("PENDING", 5),
        ("COMPLETED", 6),
        ("DISCARDED", 7),
        ("CANCELLED", 8),
    ]
    assert [(lane.name, int(lane)) for lane in model.Lane] == [("SHORT", 1), ("LONG", 2)]


def test_a_job_knows_its_key_and_whether_it_is_finished() -> None:
    job = model.Job(id=bytes(16), kind="a", state=model.State.DISCARDED)
    assert job.key == ("main", bytes(16))
    assert job.finished
    assert not model.Job(id=bytes(16), kind="a").finished
