"""How two nodes begin: who they are, and that both know the secret of the one that was dialled. Pure: frames in, frames out.

    dialled -> dialler   Challenge
    dialler -> dialled   Hello, with a proof
    dialled -> dialler   Welcome, with a proof

Either side may say Refused instead, with the code of a `WireRefused`. The secret never travels: a proof is an HMAC over both
nonces and both incarnations. Between servers certificates do this work and the secret is empty. `connection` drives it.
"""

from __future__ import annotations

import hmac
import secrets

import msgspec

from callboard import errors
from callboard.rpc import frames, network

MESSAGE_BYTES = 8 << 10
"""What a stranger may send at once."""
_NONCE_BYTES = 16
_FIELD_CHARACTERS = 253


class Identity(msgspec.Struct, frozen=True):
    """What a node says of itself to others."""

    cluster: str
    site: str
    incarnation: str


class Dialled:
    """The side that listens."""

    def __init__(self, me: Identity, secret: bytes) -> None:
        self._me = me
        self._secret = secret
        self._nonce = secrets.token_bytes(_NONCE_BYTES)

    def opening(self) -> frames.Challenge:
        me = self._me
        return frames.Challenge(frames.VERSION, frames.MIN_VERSION, me.cluster, me.site, me.incarnation, self._nonce)

    def heard(self, frame: frames.Frame) -> tuple[Identity, frames.Frame]:
        """Return who dials, and the answer that lets it in. Raises WireRefused."""
        if not isinstance(frame, frames.Hello):
            raise unexpected(frame, "a hello")
        peer = _acceptable(self._me, frame)
        if peer.incarnation == self._me.incarnation:
            raise errors.WrongNode(f"node {peer.incarnation} dialled itself")
        said = (self._nonce, frame.nonce, self._me.incarnation, peer.incarnation)
        if not hmac.compare_digest(frame.proof, _proof(self._secret, "dialler", *said)):
            raise errors.WrongSecret(f"node {peer.incarnation} does not know the secret of {self._me.incarnation}")
        return peer, frames.Welcome(_proof(self._secret, "dialled", *said))


class Dialling:
    """The side that dials `address`, whose secret it knows."""

    def __init__(self, me: Identity, address: network.Address, secret: bytes) -> None:
        self._me = me
        self._address = address
        self._secret = secret
        self._nonce = secrets.token_bytes(_NONCE_BYTES)
        self._peer: Identity | None = None
        self._expected = b""

    def heard(self, frame: frames.Frame) -> tuple[Identity | None, frames.Frame | None]:
        """Return who answered once it is let in, and what to say. Raises WireRefused."""
        if self._peer is None:
            return None, self._greet(frame)
        if not isinstance(frame, frames.Welcome):
            raise unexpected(frame, "a welcome")
        if not hmac.compare_digest(frame.proof, self._expected):
            raise errors.WrongSecret(f"node {self._peer.incarnation} does not know its own secret: somebody stands in for it")
        return self._peer, None

    def _greet(self, frame: frames.Frame) -> frames.Hello:
        if not isinstance(frame, frames.Challenge):
            raise unexpected(frame, "a challenge")
        me, peer, wanted = self._me, _acceptable(self._me, frame), self._address
        if peer.incarnation != wanted.incarnation:
            raise errors.WrongNode(f"{wanted.host}:{wanted.port} is node {peer.incarnation} now, not {wanted.incarnation}")
        said = (frame.nonce, self._nonce, peer.incarnation, me.incarnation)
        self._expected = _proof(self._secret, "dialled", *said)
        self._peer = peer
        proof = _proof(self._secret, "dialler", *said)
        return frames.Hello(frames.VERSION, frames.MIN_VERSION, me.cluster, me.site, me.incarnation, self._nonce, proof)


def unexpected(frame: frames.Frame, wanted: str) -> errors.WireRefused:
    """Return why a frame that is none of `wanted` ends the greeting: what the other side said, when it said why."""
    if isinstance(frame, frames.Refused):
        refused = errors.restored(frame.code, f"{frame.message:.500}" or "it did not say why", False, {})
        return refused if isinstance(refused, errors.WireRefused) else errors.WireRefused(refused.message)
    return errors.MalformedFrame(f"{type(frame).__name__} came where {wanted} was due")


def _acceptable(me: Identity, said: frames.Challenge | frames.Hello) -> Identity:
    if said.cluster != me.cluster:
        raise errors.WrongCluster(f"node {said.incarnation:.64} is of cluster {said.cluster!r:.80}, this one of {me.cluster!r}")
    if min(frames.VERSION, said.version) < max(frames.MIN_VERSION, said.min_version):
        theirs, ours = f"{said.min_version} to {said.version}", f"{frames.MIN_VERSION} to {frames.VERSION}"
        raise errors.WrongVersion(f"node {said.incarnation:.64} speaks versions {theirs}, this one {ours}: update the older one")
    if not said.incarnation or max(len(said.incarnation), len(said.site)) > _FIELD_CHARACTERS:
        raise errors.MalformedFrame("an incarnation or a site is empty or too long")
    return Identity(said.cluster, said.site, said.incarnation)


def _proof(secret: bytes, role: str, dialled: bytes, dialler: bytes, *incarnations: str) -> bytes:
    return hmac.digest(secret, msgspec.msgpack.encode((role, dialled, dialler, *incarnations)), "sha256")
