"""API keys: made, looked up, revoked. A key is `cb_<id>_<secret>`; only a hash of the secret is stored.

Keys are documents `keys/<id>` of the default domain, whatever domain a key is bound to, so that a token alone leads to its
record. The gateway's edge asks a `Keyring` at every request; the agent calls `ensure_admin` at its first start.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from callboard import errors
from callboard.jobs import hints
from callboard.jobs import queue as queues
from callboard.kit import grammar

SUBMIT: Final = "jobs:submit"
READ: Final = "jobs:read"
MANAGE: Final = "jobs:manage"
INVOKE: Final = "calls:invoke"
ADMIN: Final = "admin"
SCOPES: Final = (SUBMIT, READ, MANAGE, INVOKE, ADMIN)
"""What a key may be allowed; `admin` implies the others."""

MAX_AGE_NS: Final = 4_000_000_000
"""How long a key that was looked up is believed without asking again, when no hint tells of its revocation."""
MAX_CACHED: Final = 10_000
PREFIX: Final = "keys/"
_DOMAIN: Final = grammar.DEFAULT_DOMAIN


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is stored. Times in microseconds UTC."""

    name: str
    scopes: tuple[str, ...]
    domain: str
    hash: str
    """SHA-256 of the secret, in hexadecimal: the secret has 192 random bits, so nothing slower is needed."""
    created_at: int
    revoked_at: int | None = None


class Grant(msgspec.Struct, frozen=True):
    """What the bearer of a valid key may do: these scopes, in this domain and its subtree."""

    key_id: str
    domain: str
    scopes: frozenset[str]

    @property
    def home(self) -> str:
        """The domain that is meant when a request names none: the key's own, or the default one for a key to all."""
        return grammar.DEFAULT_DOMAIN if self.domain == grammar.ROOT_DOMAIN else self.domain

    def check_scope(self, scope: str) -> None:
        """Raise Forbidden when the key lacks the scope."""
        if scope not in self.scopes and ADMIN not in self.scopes:
            raise errors.Forbidden(f"key {self.key_id} has no scope {scope}: use a key that has, or admin", scope=scope)

    def check_domain(self, domain: str) -> str:
        """Return a domain that the key reaches, or raise InvalidName or Forbidden."""
        if domain != self.domain and not grammar.inside(grammar.check_domain(domain), self.domain):
            raise errors.Forbidden(f"key {self.key_id} reaches domain {self.domain} and what is inside it, not {domain:.80}")
        return domain


_encode = msgspec.json.encode
_decoder = msgspec.json.Decoder(Record)


async def create(queue: queues.Queue, name: str, scopes: Iterable[str], domain: str) -> tuple[str, Record, str]:
    """Store a new key; return its id, its record and its token, which is told nowhere again.

    Raises InvalidInput for an unknown scope or a name that is empty or long, InvalidName for the domain.
    """
    record_scopes = check_scopes(scopes)
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise errors.InvalidInput("a key's name has 1 to 100 printable characters: say who will use it")
    key_id, secret = secrets.token_hex(6), secrets.token_hex(24)
    record = Record(
        name=name,
        scopes=record_scopes,
        domain=domain if domain == grammar.ROOT_DOMAIN else grammar.check_domain(domain),
        hash=_hash(secret),
        created_at=queue.clock.now(),
    )
    await queue.put_document(_DOMAIN, PREFIX + key_id, 0, _encode(record))
    return key_id, record, f"cb_{key_id}_{secret}"


async def ensure_admin(queue: queues.Queue) -> str | None:
    """Make an admin key that reaches all domains if there is none that is valid; return its token, or None if there is one."""
    for _, record in await listed(queue):
        if ADMIN in record.scopes and record.revoked_at is None and record.domain == grammar.ROOT_DOMAIN:
            return None
    _, _, token = await create(queue, "first admin", [ADMIN], grammar.ROOT_DOMAIN)
    return token


async def listed(queue: queues.Queue) -> list[tuple[str, Record]]:
    """Return all keys, revoked ones too, oldest first."""
    documents = await queue.documents(_DOMAIN, PREFIX)
    found = [(document.path.removeprefix(PREFIX), _decoder.decode(document.body)) for document in documents]
    return sorted(found, key=lambda pair: (pair[1].created_at, pair[0]))


async def revoke(queue: queues.Queue, grant: Grant, key_id: str) -> Record:
    """Revoke a key for good; twice is the same. Raises NotFound for one that is unknown or out of the grant's reach."""
    while True:
        document = await queue.document(_DOMAIN, PREFIX + key_id)
        record = _decoder.decode(document.body) if document.body else None
        if record is None or not grammar.inside(record.domain, grant.domain):
            raise errors.NotFound(f"there is no key {key_id!r:.40}: list the keys to see their ids")
        if record.revoked_at is not None:
            return record
        record = msgspec.structs.replace(record, revoked_at=queue.clock.now())
        with contextlib.suppress(errors.DocumentConflict):  # Another gateway was faster: what it wrote counts.
            await queue.put_document(_DOMAIN, PREFIX + key_id, document.version, _encode(record))
            return record


def check_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """Return the scopes without repetitions, or raise InvalidInput naming the unknown one."""
    given = tuple(dict.fromkeys(scopes))
    for scope in given:
        if scope not in SCOPES:
            raise errors.InvalidInput(f"scope {scope!r:.40} is unknown: give some of {', '.join(SCOPES)}", scope=scope[:40])
    if not given:
        raise errors.InvalidInput(f"a key needs a scope: give some of {', '.join(SCOPES)}")
    return given


class Keyring:
    """Answers what a request's Authorization header grants: from memory when it was looked up a moment ago.

    Revocation takes effect at the hint of the changed document, or when the entry's age runs out. What is kept in memory
    are digests of tokens, never tokens. All on one event loop.
    """

    def __init__(self, queue: queues.Queue) -> None:
        self._queue = queue
        self._clock = queue.clock
        self._known: dict[bytes, tuple[Grant | None, int]] = {}
        self._changes = 0
        self._asking: dict[bytes, asyncio.Task[Grant | None]] = {}
        self._unlisten: Callable[[], None] | None = None

    def start(self) -> None:
        """Listen for changed keys."""
        self._unlisten = self._queue.hints.listen(self._heard)

    def stop(self) -> None:
        """Stop listening and asking. Allowed twice, and before `start`."""
        for asking in tuple(self._asking.values()):
            asking.cancel()
        if self._unlisten is not None:
            self._unlisten()
            self._unlisten = None

    def recall(self, authorization: bytes) -> Grant | None:
        """Return what is known to be granted without asking the store; None says: ask `grant`."""
        known = self._known.get(hashlib.sha256(authorization).digest())
        if known is not None and known[1] > self._clock.boot():
            return known[0]
        return None

    async def grant(self, authorization: bytes) -> Grant:
        """Return what an Authorization header grants. Raises Unauthorized, and StoreError when keys cannot be read."""
        digest = hashlib.sha256(authorization).digest()
        known = self._known.get(digest)
        granted = known[0] if known is not None and known[1] > self._clock.boot() else await self._asked(digest, authorization)
        if granted is None:
            raise errors.Unauthorized("the API key is missing, unknown or revoked: send 'Authorization: Bearer cb_...'")
        return granted

    async def _asked(self, digest: bytes, authorization: bytes) -> Grant | None:
        """Look a key up; requests that ask at the same time share one read."""
        key_id, secret = _parsed(authorization)
        if not key_id:
            return None
        asking = self._asking.get(digest)
        if asking is None:
            asking = self._asking[digest] = asyncio.create_task(self._look_up(digest, key_id, secret))
            asking.add_done_callback(lambda _: self._asking.pop(digest, None))
        await asyncio.wait([asking])
        return asking.result()

    async def _look_up(self, digest: bytes, key_id: str, secret: str) -> Grant | None:
        changes, read_at = self._changes, self._clock.boot()
        document = await self._queue.document(_DOMAIN, PREFIX + key_id)
        granted = _granted(key_id, secret, document.body)
        if changes == self._changes:  # Else the document may have been read before the change that a hint told of.
            self._keep(digest, granted, read_at + MAX_AGE_NS)
        return granted

    def _keep(self, digest: bytes, granted: Grant | None, until: int) -> None:
        if len(self._known) >= MAX_CACHED:
            self._known.clear()
        self._known[digest] = (granted, until)

    def _heard(self, hint: hints.Hint) -> None:
        if any(domain == _DOMAIN and path.startswith(PREFIX) for domain, path in hint.documents):
            self._changes += 1
            self._known.clear()


def _parsed(authorization: bytes) -> tuple[str, str]:
    scheme, _, token = authorization.decode("latin-1").partition(" ")
    parts = token.strip().split("_", 2)
    if scheme.lower() != "bearer" or len(parts) != 3 or parts[0] != "cb" or len(token) > 200 or not parts[1].isalnum():
        return "", ""
    return parts[1], parts[2]


def _granted(key_id: str, secret: str, body: bytes) -> Grant | None:
    record = _decoder.decode(body) if body else None
    stored = record.hash if record is not None else _hash("")
    right = hmac.compare_digest(_hash(secret), stored)  # Compared for unknown ids too, so that time tells nothing.
    if record is None or not right or record.revoked_at is not None:
        return None
    return Grant(key_id, record.domain, frozenset(record.scopes))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
