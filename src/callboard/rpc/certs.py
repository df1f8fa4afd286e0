"""A cluster's own certificates: an authority that is made once, and a certificate for each server that joins.

Used by `callboard certs`; nodes only read the files (`sockets.Tls.load`). Needs `cryptography`, the extra `cluster`. Keys are
ECDSA on P-256, files are PEM, private keys have mode 0600 and are never written over.
"""

from __future__ import annotations

import contextlib
import errno
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from callboard import errors
from callboard.kit import grammar

AUTHORITY: Final = "cluster-ca"
"""Name of the authority's files; no server may be named so."""
AUTHORITY_DAYS: Final = 3650
SERVER_DAYS: Final = 825
EARLY: Final = timedelta(hours=1)
"""How much earlier than now a certificate is valid: clocks of servers differ."""


class Files(msgspec.Struct, frozen=True):
    """What was made."""

    certificate: Path
    key: Path
    valid_until: datetime


def files(directory: Path, name: str) -> tuple[Path, Path]:
    """Return where the certificate and the key of a server, or of the AUTHORITY, are in a directory."""
    return directory / f"{name}.pem", directory / f"{name}.key"


def init(directory: Path, *, cluster: str = "callboard", now: datetime | None = None, days: int = AUTHORITY_DAYS) -> Files:
    """Make a cluster's authority. Raises InvalidInput when there is one already, Unsupported, DataUnusable."""
    parts = _load()
    key = parts.ec.generate_private_key(parts.ec.SECP256R1())
    name = _named(parts, f"{cluster} cluster")
    made = _begun(parts, name, name, key.public_key(), now, days)
    made = made.add_extension(parts.x509.BasicConstraints(ca=True, path_length=0), critical=True)
    made = made.add_extension(_usage(parts, authority=True), critical=True)
    made = made.add_extension(parts.x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return _write(parts, directory, AUTHORITY, made.sign(key, parts.hashes.SHA256()), key)


def issue(directory: Path, server: str, *, now: datetime | None = None, days: int = SERVER_DAYS) -> Files:
    """Make a certificate for a server, to listen and to dial with, signed by the authority in the directory.

    Raises InvalidName, InvalidInput when the server has one or there is no authority, Unsupported, DataUnusable.
    """
    parts = _load()
    if server == AUTHORITY:
        raise errors.InvalidName(f"{AUTHORITY} is the authority's own name: name the server otherwise")
    try:
        grammar.check_domain(server)
    except errors.InvalidName:
        raise errors.InvalidName(f"server {server!r:.80} is not labels with dots: write it like 'one.acme'") from None
    authority, authority_key = _authority(parts, directory)
    key = parts.ec.generate_private_key(parts.ec.SECP256R1())
    made = _begun(parts, _named(parts, server), authority.subject, key.public_key(), now, days)
    for extension, critical in (
        (parts.x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(parts, authority=False), True),
        (parts.x509.ExtendedKeyUsage([parts.oid.SERVER_AUTH, parts.oid.CLIENT_AUTH]), False),
        (parts.x509.SubjectAlternativeName([parts.x509.DNSName(server)]), False),
        (parts.x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), False),
    ):
        made = made.add_extension(extension, critical=critical)
    return _write(parts, directory, server, made.sign(authority_key, parts.hashes.SHA256()), key)


class _Parts:
    """What is used of `cryptography`, which is loaded where it is needed: it is an extra, and slow to load."""

    def __init__(self) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        self.x509 = x509
        self.ec = ec
        self.hashes = hashes
        self.serialization = serialization
        self.oid = x509.oid.ExtendedKeyUsageOID


def _load() -> _Parts:
    try:
        return _Parts()
    except ImportError:
        said = "certificates need the package cryptography: pip install callboard[cluster]"
        raise errors.Unsupported(said, ability="certificates") from None


def _named(parts: _Parts, name: str) -> Any:
    return parts.x509.Name([parts.x509.NameAttribute(parts.x509.oid.NameOID.COMMON_NAME, name)])


def _begun(parts: _Parts, subject: Any, issuer: Any, public_key: Any, now: datetime | None, days: int) -> Any:
    now = now or datetime.now(UTC)
    made = parts.x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public_key)
    made = made.serial_number(parts.x509.random_serial_number())
    return made.not_valid_before(now - EARLY).not_valid_after(now + timedelta(days=days))


def _usage(parts: _Parts, *, authority: bool) -> Any:
    return parts.x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _authority(parts: _Parts, directory: Path) -> tuple[Any, Any]:
    certificate, key = files(directory, AUTHORITY)
    try:
        read = parts.x509.load_pem_x509_certificate(certificate.read_bytes())
        return read, parts.serialization.load_pem_private_key(key.read_bytes(), None)
    except FileNotFoundError as error:
        raise errors.InvalidInput(f"there is no {error.filename}: make an authority with 'callboard certs init'") from None
    except (OSError, ValueError) as error:
        raise errors.DataUnusable(f"the authority in {directory} cannot be read: {error}") from None


def _write(parts: _Parts, directory: Path, name: str, certificate: Any, key: Any) -> Files:
    certificate_path, key_path = files(directory, name)
    pem = parts.serialization.Encoding.PEM
    form, open_key = parts.serialization.PrivateFormat.PKCS8, parts.serialization.NoEncryption()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if certificate_path.exists():
            raise FileExistsError(errno.EEXIST, "", str(certificate_path))
        _write_new(key_path, key.private_bytes(pem, form, open_key), 0o600)
        _write_new(certificate_path, certificate.public_bytes(pem), 0o644)
    except FileExistsError as error:
        raise errors.InvalidInput(f"{error.filename} exists already: remove it first, or choose another directory") from None
    except OSError as error:
        raise errors.DataUnusable(f"cannot write to {directory}: {error.strerror}") from None
    return Files(certificate_path, key_path, certificate.not_valid_after_utc)


def _write_new(path: Path, body: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise
