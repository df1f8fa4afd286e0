"""From a submission to a job: defaults, every refusal, and what makes a repeated submission the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from callboard import errors
from callboard.jobs import kinds, model, submission
from callboard.jobs.model import Lane, State
from callboard.jobs.submission import Submission
from callboard.kit import clock, codec, uuid7

NOW = 1_750_000_000 * clock.SECOND
WHEN = datetime.fromtimestamp(NOW // clock.SECOND, UTC)
DECLARED = kinds.Kind(
    name="app.declared",
    queue="images",
    lane=Lane.SHORT,
    priority=2,
    attempts=7,
    backoff=0.5,
    timeout=30,
    tags=("blue",),
    versions=(1, 2, 3),
)


def build(known: tuple[kinds.Kind, ...] = (), now: int = NOW, **fields: Any) -> model.Job:
    given = Submission(**{"kind": "app.work"} | fields)
    return submission.build(given, {kind.name: kind for kind in known}, now)


def test_an_undeclared_kind_gets_the_general_defaults() -> None:
    job = build(args={"b": 1, "a": [True, None, 1.5, "ü"]})
    assert (job.kind, job.domain, job.queue, job.lane, job.version) == ("app.work", "main", "default", Lane.LONG, 1)
    assert (job.priority, job.max_attempts, job.backoff, job.timeout, job.tags, job.meta) == (5, 3, clock.SECOND, None, (), {})
    assert (job.state, job.submitted_at, job.run_at) == (State.AVAILABLE, NOW, NOW)
    assert codec.unpack(job.args) == {"a": [True, None, 1.5, "ü"], "b": 1}
    assert (job.codec, len(job.digest)) == (model.CODEC_MSGPACK, 16)
    assert uuid7.valid(job.id)
    assert uuid7.milliseconds(job.id) - NOW // 1000 in range(1000)


def test_a_declared_kind_gives_its_own_defaults() -> None:
    job = build((DECLARED,), kind="app.declared")
    assert (job.queue, job.lane, job.priority, job.max_attempts) == ("images", Lane.SHORT, 2, 7)
    assert (job.backoff, job.timeout, job.tags, job.version) == (500_000, 30 * clock.SECOND, ("blue",), 3)


def test_what_is_said_goes_before_what_is_declared() -> None:
    job = build(
        (DECLARED,),
        kind="app.declared",
        domain="team.acme",
        queue="q",
        lane="long",
        version=2,
        priority=9,
        delay=1.5,
        attempts=1,
        backoff=0,
        timeout=0.25,
        tags=("a", "b", "a"),
        meta={"traceparent": "00"},
    )
    assert (job.domain, job.queue, job.lane, job.version, job.priority) == ("team.acme", "q", Lane.LONG, 2, 9)
    assert (job.max_attempts, job.backoff, job.timeout, job.tags) == (1, 0, 250_000, ("a", "b"))
    assert (job.state, job.run_at, job.meta) == (State.SCHEDULED, NOW + 1_500_000, {"traceparent": "00"})


def test_a_kind_checks_and_encodes_its_arguments() -> None:
    def check(args: dict[str, Any]) -> bytes:
        if "path" not in args:
            raise errors.InvalidArguments("path is missing")
        return b"\x81checked"

    kind = kinds.Kind(name="app.checked", check=check)
    assert build((kind,), kind="app.checked", args={"path": 1}).args == b"\x81checked"
    with pytest.raises(errors.InvalidArguments, match="path"):
        build((kind,), kind="app.checked")


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"kind": "no spaces"}, errors.InvalidName, "kind"),
        ({"domain": "Main"}, errors.InvalidName, "domain"),
        ({"queue": "a.b"}, errors.InvalidName, "queue"),
        ({"lane": "middle"}, errors.InvalidInput, "lane"),
        ({"version": 0}, errors.InvalidInput, "version"),
        ({"priority": 10}, errors.InvalidInput, "priority"),
        ({"priority": -1}, errors.InvalidInput, "priority"),
        ({"priority": True}, errors.InvalidInput, "priority"),
        ({"priority": 1.0}, errors.InvalidInput, "priority"),
        ({"attempts": 0}, errors.InvalidInput, "attempts"),
        ({"attempts": model.MAX_ATTEMPTS + 1}, errors.InvalidInput, "attempts"),
        ({"backoff": -0.1}, errors.InvalidInput, "backoff"),
        ({"backoff": 3601}, errors.InvalidInput, "backoff"),
        ({"backoff": "1"}, errors.InvalidInput, "backoff"),
        ({"timeout": 0}, errors.InvalidInput, "timeout"),
        ({"timeout": float("nan")}, errors.InvalidInput, "timeout"),
        ({"timeout": float("inf")}, errors.InvalidInput, "timeout"),
        ({"delay": -1}, errors.InvalidInput, "delay"),
        ({"delay": submission.MAX_DELAY + 1}, errors.InvalidInput, "delay"),
        ({"delay": 1, "run_at": WHEN}, errors.InvalidInput, "both"),
        ({"run_at": datetime(2030, 1, 1)}, errors.InvalidTime, "offset"),
        ({"run_at": WHEN + timedelta(days=3700)}, errors.InvalidTime, "ten years"),
        ({"tags": ("a,b",)}, errors.InvalidName, "tag"),
        ({"tags": ("a",) * 17}, errors.InvalidInput, "tags"),
        ({"tags": "abc"}, errors.InvalidInput, "tags"),
        ({"meta": {str(i): "" for i in range(17)}}, errors.InvalidInput, "meta"),
        ({"meta": {"a": "x" * 4096}}, errors.InvalidInput, "meta"),
        ({"meta": {"a": 1}}, errors.InvalidInput, "meta"),
        ({"meta": {"a": "\ud800"}}, errors.InvalidInput, "meta"),
        ({"id": "7"}, errors.InvalidId, "UUIDv7"),
        ({"id": 7}, errors.InvalidId, "UUIDv7"),
        ({"id": "f47ac10b-58cc-4372-a567-0e02b2c3d479"}, errors.InvalidId, "UUIDv7"),
        ({"id": uuid7.text(uuid7.make(NOW + 301 * clock.SECOND))}, errors.InvalidId, "future"),
        ({"args": [1]}, errors.InvalidArguments, "mapping"),
        ({"args": {"a": float("nan")}}, errors.InvalidInput, "args"),
        ({"args": {"a": {1: 2}}}, errors.InvalidInput, "keys"),
        ({"args": {"a": 1 << 65}}, errors.InvalidInput, "args"),
        ({"args": {"a": object()}}, errors.InvalidInput, "args"),
        ({"args": {"a": "x" * model.MAX_PAYLOAD}}, errors.TooLarge, "limit"),
    ],
)
def test_bad_input_is_refused_with_its_name(fields: dict[str, Any], error: type[errors.CallboardError], text: str) -> None:
    with pytest.raises(error, match=text) as raised:
        build(**fields)
    assert isinstance(raised.value, errors.InvalidInput)
    assert "\n" not in str(raised.value)


def test_too_large_arguments_tell_the_limit() -> None:
    with pytest.raises(errors.TooLarge) as raised:
        submission.build(Submission(kind="a", args={"a": "xxxx"}), {}, NOW, max_payload=5)
    assert raised.value.data == {"limit": 5}


@pytest.mark.parametrize(
    ("run_at", "state", "at"),
    [
        (WHEN + timedelta(microseconds=1), State.SCHEDULED, NOW + 1),
        (WHEN, State.AVAILABLE, NOW),
        (WHEN - timedelta(days=1), State.AVAILABLE, NOW),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=14))), State.AVAILABLE, NOW),
        ((WHEN + timedelta(hours=1)).astimezone(timezone(timedelta(hours=-5))), State.SCHEDULED, NOW + 3600 * clock.SECOND),
    ],
)
def test_run_at_is_a_moment_whatever_its_offset(run_at: datetime, state: State, at: int) -> None:
    job = build(run_at=run_at)
    assert (job.state, job.run_at) == (state, at)


def test_the_id_is_the_submitter_s() -> None:
    id = uuid7.make(NOW)
    assert build(id=uuid7.text(id)).id == id
    assert build(id=uuid7.text(id).upper()).id == id
    assert build().id != build().id


def test_a_repeated_submission_has_the_same_digest() -> None:
    fields: dict[str, Any] = {"args": {"a": 1, "b": {"x": 1, "y": 2}}, "delay": 5, "tags": ("a",), "meta": {"a": "1", "b": "2"}}
    again: dict[str, Any] = {"args": {"b": {"y": 2, "x": 1}, "a": 1}, "delay": 5.0, "tags": ["a"], "meta": {"b": "2", "a": "1"}}
    first, second = build(**fields), build(**again, now=NOW + 60 * clock.SECOND)
    assert first.digest == second.digest
    assert first.run_at != second.run_at


def test_the_digest_is_of_what_was_given_not_of_what_is_declared() -> None:
    later = msgspec.structs.replace(DECLARED, queue="other", attempts=1, versions=(4,))
    assert build((DECLARED,), kind="app.declared").digest == build((later,), kind="app.declared").digest
    assert build(kind="app.declared").digest == build((DECLARED,), kind="app.declared").digest


def test_neither_id_nor_domain_is_part_of_the_digest() -> None:
    assert build(id=uuid7.text(uuid7.make(NOW)), domain="acme").digest == build().digest


def test_the_same_moment_is_the_same_however_written() -> None:
    moment = WHEN + timedelta(hours=1)
    elsewhere = moment.astimezone(timezone(timedelta(hours=3)))
    assert build(run_at=moment).digest == build(run_at=elsewhere).digest


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "app.other"},
        {"args": {"a": 2}},
        {"queue": "default"},
        {"lane": "long"},
        {"version": 1},
        {"priority": 5},
        {"delay": 0},
        {"run_at": WHEN},
        {"attempts": 3},
        {"backoff": 1},
        {"timeout": 1},
        {"tags": ()},
        {"meta": {}},
    ],
)
def test_everything_given_is_part_of_the_digest(fields: dict[str, Any]) -> None:
    assert build(**fields).digest != build().digest


def test_options_do_not_pass_for_each_other() -> None:
    threes: list[dict[str, Any]] = [{name: 3} for name in ("version", "priority", "delay", "attempts", "backoff", "timeout")]
    made = [build(**three).digest for three in threes]
    assert len(set(made)) == len(made)


def test_unknown_fields_and_wrong_types_are_refused_by_the_decoder() -> None:
    decode = msgspec.json.Decoder(Submission).decode
    assert decode(b'{"kind": "a", "delay": 1}').delay == 1.0
    for body in (b'{"kind": "a", "when": 1}', b'{"args": {}}', b'{"kind": "a", "args": []}', b'{"kind": "a", "priority": "1"}'):
        with pytest.raises(msgspec.ValidationError):
            decode(body)
