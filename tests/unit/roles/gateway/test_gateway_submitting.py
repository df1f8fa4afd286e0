"""Submitting over HTTP: one and many, twice, badly, and all at once."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from callboard import errors
from callboard.jobs import engine as seam
from callboard.kit import uuid7

NOW = time.time_ns() // 1000
WAYS = ["/v1/jobs", "/v1/jobs/", "/v1/jobs?domain=main"]
"""The edge answers the first one itself, the framework's route the others."""


def make_id(offset_seconds: float = 0) -> str:
    return uuid7.text(uuid7.make(time.time_ns() // 1000 + round(offset_seconds * 1e6)))


async def stored(api) -> int:
    page = await api.queue.find(seam.Filter(domain="main"), 100)
    return len(page.jobs)


@pytest.mark.parametrize("way", WAYS)
async def test_a_submitted_job_is_stored(api, way):
    answer = await api("POST", way, {"kind": "app.resize", "args": {"path": "x", "sizes": [1, 2.5, None, True]}, "tags": ["a"]})
    assert answer.status == 201
    assert answer.body == {"id": answer.body["id"], "domain": "main", "state": "available", "created": True}
    assert answer.headers["Content-Type"] == "application/json"
    job = (await api("GET", f"/v1/jobs/{answer.body['id']}")).body
    assert job["args"] == {"path": "x", "sizes": [1, 2.5, None, True]}
    assert (job["queue"], job["lane"], job["max_attempts"], job["version"]) == ("images", "short", 5, 2), "the kind's defaults"


@pytest.mark.parametrize("way", WAYS)
async def test_the_same_again_is_the_same_job(api, way):
    body = {"kind": "app.resize", "args": {"a": 1}, "id": make_id(), "delay": 60}
    first = await api("POST", way, body)
    again = await api("POST", way, body)
    assert (first.status, again.status) == (201, 200)
    assert again.body == {"id": body["id"], "domain": "main", "state": "scheduled", "created": False}
    other = await api("POST", way, {**body, "args": {"a": 2}})
    assert (other.status, other.body["code"], other.body["state"]) == (409, "id_conflict", "scheduled")
    assert await stored(api) == 1


BAD = {
    "not JSON": (b'{"kind":', 400, "invalid_input", "not JSON"),
    "nothing": (b"", 400, "invalid_input", "not JSON"),
    "not UTF-8": (b'{"kind":"\xff"}', 400, "invalid_input", "JSON"),
    "a list": (b"[]", 422, "invalid_input", "object"),
    "no kind": (b"{}", 422, "invalid_input", "kind"),
    "unknown field": (b'{"kind":"a","colour":1}', 422, "invalid_input", "colour"),
    "wrong type": (b'{"kind":"a","priority":"1"}', 422, "invalid_input", "priority"),
    "args not named": (b'{"kind":"a","args":[1]}', 422, "invalid_input", "args"),
    "NaN": (b'{"kind":"a","args":{"x":NaN}}', 400, "invalid_input", "not JSON"),
    "a huge number": (b'{"kind":"a","args":{"x":1e999}}', 422, "invalid_input", "args"),
    "a huge integer": (b'{"kind":"a","args":{"x":123456789012345678901234567890}}', 422, "invalid_input", "args"),
    "deep": (b'{"kind":"a","args":{"x":' + b"[" * 5000 + b"]" * 5000 + b"}}", 400, "invalid_input", ""),
    "bad kind": (b'{"kind":"a b"}', 422, "invalid_name", "kind"),
    "priority": (b'{"kind":"a","priority":10}', 422, "invalid_input", "priority"),
    "both times": (b'{"kind":"a","delay":1,"run_at":"2030-01-01T00:00:00Z"}', 422, "invalid_input", "delay"),
    "no offset": (b'{"kind":"a","run_at":"2030-01-01T00:00:00"}', 422, "invalid_time", "offset"),
    "no id": (b'{"kind":"a","id":"x"}', 422, "invalid_id", "UUIDv7"),
    "a v4": (b'{"kind":"a","id":"7f0e2b5e-3c1f-4a57-9a0e-9d2c8b1a6f3d"}', 422, "invalid_id", "UUIDv7"),
    "of the future": (msgspec.json.encode({"kind": "a", "id": make_id(3600)}), 422, "invalid_id", "future"),
    "of the past": (msgspec.json.encode({"kind": "a", "id": make_id(-3600)}), 409, "id_expired", "new id"),
    "another domain": (b'{"kind":"a","domain":"acme"}', 403, "forbidden", "acme"),
    "no domain": (b'{"kind":"a","domain":"..main"}', 422, "invalid_name", "domain"),
    "big arguments": (msgspec.json.encode({"kind": "a", "args": {"x": "y" * 300_000}}), 413, "too_large", "limit"),
}


@pytest.mark.parametrize("way", WAYS[:2])
@pytest.mark.parametrize("body, status, code, word", BAD.values(), ids=BAD)
async def test_bad_input_is_a_problem_of_one_line(api, way, body, status, code, word):
    answer = await api("POST", way, body)
    assert (answer.status, answer.body["code"]) == (status, code), answer
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.body["status"] == status
    assert answer.body["type"] == f"urn:callboard:error:{code}"
    assert word in answer.body["detail"]
    assert "\n" not in answer.body["detail"] and "Traceback" not in answer.body["detail"]
    assert await stored(api) == 0


@pytest.mark.parametrize("way", WAYS)
async def test_arguments_of_a_known_kind_are_checked(api, way):
    answer = await api("POST", way, {"kind": "app.strict", "args": {"paht": "x"}})
    assert (answer.status, answer.body["code"]) == (422, "invalid_arguments")
    assert await stored(api) == 0
    assert (await api("POST", way, {"kind": "app.strict", "args": {"path": "x"}})).status == 201


@pytest.mark.parametrize("way", WAYS[:2])
async def test_a_large_body_is_refused_with_the_limit(api, way):
    answer = await api("POST", way, b'{"kind":"a","args":{"x":"' + b"y" * (1 << 20) + b'"}}')
    assert (answer.status, answer.body["code"], answer.body["limit"]) == (413, "too_large", 1 << 20)
    assert (await api("GET", "/v1/jobs")).status == 200, "the connection goes on"


@pytest.mark.parametrize("way", WAYS)
async def test_submitting_needs_a_key_with_the_scope(api, way):
    body = {"kind": "a"}
    for token in ("", "cb_x_y"):
        answer = await api("POST", way, body, token=token)
        assert (answer.status, answer.body["code"]) == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    answer = await api("POST", way, body, token=await api.key("jobs:read", "jobs:manage"))
    assert (answer.status, answer.body["code"], answer.body["scope"]) == (403, "forbidden", "jobs:submit")
    assert (await api("POST", way, body, token=await api.key("jobs:submit"))).status == 201


async def test_a_key_puts_jobs_into_its_own_domain(api):
    token = await api.key("jobs:submit", domain="acme")
    assert (await api("POST", "/v1/jobs", {"kind": "a"}, token=token)).body["domain"] == "acme"
    assert (await api("POST", "/v1/jobs?domain=team.acme", {"kind": "a"}, token=token)).body["domain"] == "team.acme"
    assert (await api("POST", "/v1/jobs", {"kind": "a", "domain": "b.acme"}, token=token)).body["domain"] == "b.acme"
    assert (await api("POST", "/v1/jobs?domain=main", {"kind": "a"}, token=token)).status == 403


async def test_a_batch_answers_for_each(api):
    id = make_id()
    await api("POST", "/v1/jobs", {"kind": "a", "id": id})
    jobs = [{"kind": "a"}, {"kind": "a", "id": id}, {"kind": "b", "id": id}, {"kind": "a", "id": make_id(-3600)}, {"kind": "a"}]
    answer = await api("POST", "/v1/jobs/batch", {"jobs": jobs})
    assert answer.status == 200
    results = answer.body["results"]
    assert [result.get("created") for result in results] == [True, False, None, None, True]
    assert results[2]["error"]["code"] == "id_conflict"
    assert results[3]["error"]["code"] == "id_expired"
    assert await stored(api) == 3


async def test_a_batch_with_the_same_job_twice_stores_it_once(api):
    job = {"kind": "a", "id": make_id()}
    results = (await api("POST", "/v1/jobs/batch", {"jobs": [job, job]})).body["results"]
    assert [result["created"] for result in results] == [True, False]


@pytest.mark.parametrize(
    "bad, status, code",
    [
        ({"kind": "a b"}, 422, "invalid_name"),
        ({"kind": "a", "x": 1}, 422, "invalid_input"),
        (7, 422, "invalid_input"),
        ({"kind": "a", "args": {"x": "y" * 300_000}}, 422, "too_large"),
        ({"kind": "a", "id": make_id(3600)}, 422, "invalid_id"),
        ({"kind": "a", "domain": "acme"}, 403, "forbidden"),
    ],
)
async def test_one_bad_job_refuses_its_batch_by_index(api, bad, status, code):
    answer = await api("POST", "/v1/jobs/batch", {"jobs": [{"kind": "a"}] * 3 + [bad] + [{"kind": "b c"}]})
    assert (answer.status, answer.body["code"], answer.body["index"]) == (status, code, 3)
    assert await stored(api) == 0


async def test_batches_have_limits(api):
    assert (await api("POST", "/v1/jobs/batch", {"jobs": []})).body == {"results": []}
    many = await api("POST", "/v1/jobs/batch", {"jobs": [{"kind": "a"}] * 10_001})
    assert (many.status, many.body["limit"]) == (422, 10_000)
    big = await api("POST", "/v1/jobs/batch", b'{"jobs":[' + b" " * (16 << 20) + b"]}")
    assert (big.status, big.body["code"], big.body["limit"]) == (413, "too_large", 16 << 20)
    assert (await api("POST", "/v1/jobs/batch", b'{"jobs":[]}' + b" " * (2 << 20))).status == 200
    assert (await api("POST", "/v1/jobs/batch", {"jobs": {}})).status == 422


async def test_a_full_batch_is_taken(api):
    results = (await api("POST", "/v1/jobs/batch", {"jobs": [{"kind": "a"}] * 10_000})).body["results"]
    assert len({result["id"] for result in results}) == 10_000
    assert all(result["created"] for result in results)


async def test_concurrent_submissions_share_commits(api):
    before = api.queue.stats()["commits"]
    answers = await asyncio.gather(*(api("POST", "/v1/jobs", {"kind": "a"}) for _ in range(200)))
    assert {answer.status for answer in answers} == {201}
    assert api.queue.stats()["commits"] - before < 150


@pytest.mark.parametrize(
    "error", [errors.StoreUnavailable("the store is away: wait"), errors.StoreFull("no space left: free some")]
)
@pytest.mark.parametrize("path, body", [*((way, {"kind": "a"}) for way in WAYS), ("/v1/jobs/batch", {"jobs": [{"kind": "a"}]})])
async def test_a_store_in_trouble_is_a_503(api, monkeypatch, error, path, body):
    await api("GET", "/v1/jobs")  # the key is known

    async def fail(jobs):
        raise error

    monkeypatch.setattr(api.queue, "submit", fail)
    answer = await api("POST", path, body)
    assert (answer.status, answer.body["code"], answer.body["retryable"]) == (503, error.code, True)
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize("path, body", [*((way, {"kind": "a"}) for way in WAYS), ("/v1/jobs/batch", {"jobs": [{"kind": "a"}]})])
async def test_the_unforeseen_is_logged_and_not_shown(api, monkeypatch, path, body):
    async def fail(jobs):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(api.queue, "submit", fail)
    answer = await api("POST", path, body)
    assert (answer.status, answer.body["code"]) == (500, "internal_error")
    assert "secret" not in str(answer.body)


async def test_a_client_that_leaves_amid_its_body_changes_nothing(api):
    port = int(api.gateway.url.rpartition(":")[2])
    for path in ("/v1/jobs", "/v1/jobs/batch"):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\nContent-Length: 100\r\n\r\n"
        writer.write(head.encode() + b'{"kind":')
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    assert await stored(api) == 0
    assert (await api("GET", "/v1/jobs")).status == 200
