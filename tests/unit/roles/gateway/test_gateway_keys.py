"""API keys: what they open, that they are nowhere in clear, and how soon a revoked one is refused."""

from __future__ import annotations

import asyncio

import pytest

from callboard import errors
from callboard.jobs import hints
from callboard.jobs import queue as queues
from callboard.jobs.engines import memory
from callboard.kit import clock, grammar
from callboard.roles.gateway import keys


def bearer(token: str) -> bytes:
    return f"Bearer {token}".encode()


@pytest.fixture
async def ring(queue):
    made = keys.Keyring(queue)
    made.start()
    yield made
    made.stop()


async def test_a_key_opens_what_it_was_made_for(queue, ring):
    key_id, _, token = await keys.create(queue, "robot", ["jobs:submit", "jobs:read", "jobs:read"], "acme")
    grant = await ring.grant(bearer(token))
    assert grant == keys.Grant(key_id, "acme", frozenset({"jobs:submit", "jobs:read"}))
    assert ring.recall(bearer(token)) == grant
    grant.check_scope("jobs:read")
    with pytest.raises(errors.Forbidden, match="jobs:manage"):
        grant.check_scope("jobs:manage")
    assert grant.check_domain("team.acme") == "team.acme"
    for outside in ("main", "acme.team", "xacme", ""):
        with pytest.raises((errors.Forbidden, errors.InvalidName)):
            grant.check_domain(outside)


async def test_admin_implies_all(queue, ring):
    _, _, token = await keys.create(queue, "boss", ["admin"], "main")
    grant = await ring.grant(bearer(token))
    for scope in keys.SCOPES:
        grant.check_scope(scope)


async def test_only_a_hash_is_stored(queue):
    _, _, token = await keys.create(queue, "robot", ["jobs:read"], "main")
    secret = token.rpartition("_")[2]
    (document,) = await queue.documents(grammar.DEFAULT_DOMAIN, "keys/")
    assert secret.encode() not in document.body


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Bearer",
        b"Bearer x",
        b"Bearer cb_",
        b"Bearer cb__",
        b"Bearer cb_abc_def",
        b"Basic cb_abc_def",
        b"Bearer cb_../x_y",
        b"Bearer cb_\xff_\xfe",
        b"Bearer cb_a_" + b"x" * 300,
    ],
)
async def test_what_is_no_key_opens_nothing(ring, header):
    with pytest.raises(errors.Unauthorized, match="Authorization: Bearer"):
        await ring.grant(header)


async def test_a_wrong_secret_opens_nothing(queue, ring):
    _, _, token = await keys.create(queue, "robot", ["jobs:read"], "main")
    await ring.grant(bearer(token))
    for wrong in (token[:-1] + ("0" if token[-1] != "0" else "1"), token[:-1], token + "0", token.rpartition("_")[0] + "_"):
        with pytest.raises(errors.Unauthorized):
            await ring.grant(bearer(wrong))


async def test_a_revoked_key_is_refused_at_once_with_hints(queue, ring):
    key_id, _, token = await keys.create(queue, "robot", ["jobs:read"], "main")
    admin = keys.Grant("x", "main", frozenset({"admin"}))
    await ring.grant(bearer(token))
    record = await keys.revoke(queue, admin, key_id)
    assert record.revoked_at is not None
    assert ring.recall(bearer(token)) is None
    with pytest.raises(errors.Unauthorized):
        await ring.grant(bearer(token))
    assert await keys.revoke(queue, admin, key_id) == record, "twice is the same"


class Deaf(hints.LocalHints):
    """Hints that never arrive."""

    def publish(self, hint: hints.Hint) -> None:
        pass


async def test_gateways_that_revoke_a_key_at_the_same_time_agree(queue, monkeypatch):
    key_id, _, _ = await keys.create(queue, "ci", ["jobs:read"], "main")
    admin = keys.Grant("x", "main", frozenset({"admin"}))
    read, reads, both = queue.document, [], asyncio.Event()

    async def together(domain, path):
        found = await read(domain, path)
        reads.append(found.version)
        if len(reads) == 2:
            both.set()
        await both.wait()
        return found

    monkeypatch.setattr(queue, "document", together)
    first, second = await asyncio.gather(*(keys.revoke(queue, admin, key_id) for _ in range(2)))
    assert first == second and reads == [1, 1, 2]


async def test_a_revoked_key_is_refused_in_five_seconds_without_hints():
    time = clock.ManualClock()
    queue = queues.Queue(memory.open("memory:"), clock=time, hints=Deaf())
    await queue.start()
    ring = keys.Keyring(queue)
    ring.start()
    key_id, _, token = await keys.create(queue, "robot", ["jobs:read"], "main")
    await ring.grant(bearer(token))
    await keys.revoke(queue, keys.Grant("x", "main", frozenset({"admin"})), key_id)
    time.advance(3)
    await ring.grant(bearer(token))
    time.advance(1.9)
    with pytest.raises(errors.Unauthorized):
        await ring.grant(bearer(token))
    ring.stop()
    await queue.stop()


async def test_a_key_read_before_its_revocation_is_not_kept(queue, ring, monkeypatch):
    """The read of a key and the hint of its revocation cross: what was read must not be believed for seconds."""
    key_id, _, token = await keys.create(queue, "robot", ["jobs:read"], "main")
    read = queue.document

    async def crossed(domain, path):
        found = await read(domain, path)
        queue.hints.publish(hints.Hint(documents=((grammar.DEFAULT_DOMAIN, f"keys/{key_id}"),)))
        return found

    monkeypatch.setattr(queue, "document", crossed)
    await ring.grant(bearer(token))
    assert ring.recall(bearer(token)) is None


async def test_requests_that_ask_together_share_one_read(queue, ring):
    _, _, token = await keys.create(queue, "robot", ["jobs:read"], "main")
    reads = 0
    document = queue.engine.document

    def counted(domain, path):
        nonlocal reads
        reads += 1
        return document(domain, path)

    queue.engine.document = counted
    await asyncio.gather(*(ring.grant(bearer(token)) for _ in range(50)))
    assert reads == 1


async def test_a_revoked_key_of_another_domain_is_not_found(queue):
    key_id, _, _ = await keys.create(queue, "robot", ["jobs:read"], "acme")
    with pytest.raises(errors.NotFound):
        await keys.revoke(queue, keys.Grant("x", "main", frozenset({"admin"})), key_id)
    with pytest.raises(errors.NotFound):
        await keys.revoke(queue, keys.Grant("x", "main", frozenset({"admin"})), "nope")


async def test_the_first_admin_key_reaches_every_domain(api, queue):
    token = await keys.ensure_admin(queue)
    made = await api("POST", "/v1/keys", {"name": "acme", "scopes": ["admin"], "domain": "acme"}, token=token)
    assert (made.status, made.body["domain"]) == (201, "acme")
    id = (await api("POST", "/v1/jobs", {"kind": "a", "domain": "acme"}, token=token)).body["id"]
    assert (await api("GET", f"/v1/jobs/{id}?domain=acme", token=made.body["key"])).status == 200
    assert (await api("GET", "/v1/jobs?domain=main", token=made.body["key"])).status == 403
    assert (await api("POST", "/v1/jobs", {"kind": "a"}, token=token)).body["domain"] == "main"


async def test_the_first_admin_key_is_made_once(queue, ring):
    token = await keys.ensure_admin(queue)
    assert token is not None and token.startswith("cb_")
    assert (await ring.grant(bearer(token))).scopes == {"admin"}
    assert await keys.ensure_admin(queue) is None
    ((key_id, _),) = await keys.listed(queue)
    await keys.revoke(queue, keys.Grant("x", grammar.ROOT_DOMAIN, frozenset({"admin"})), key_id)
    assert await keys.ensure_admin(queue) not in (None, token), "a revoked one is no admin key"


@pytest.mark.parametrize(
    "name, scopes, domain",
    [
        ("", ["admin"], "main"),
        ("x" * 101, ["admin"], "main"),
        ("a\nb", ["admin"], "main"),
        ("x", [], "main"),
        ("x", ["jobs:fly"], "main"),
        ("x", ["admin"], "Main!"),
    ],
)
async def test_a_key_that_cannot_be_is_not_made(queue, name, scopes, domain):
    with pytest.raises(errors.InvalidInput):
        await keys.create(queue, name, scopes, domain)
    assert await keys.listed(queue) == []
