"""What is said where the optional extra is missing."""

from __future__ import annotations

import sys

import pytest
from cryptography.hazmat.primitives import serialization

from callboard import brokers, errors
from callboard.brokers import address, wire
from callboard.rpc import certs


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.delattr(brokers, "link", raising=False)
    monkeypatch.setitem(sys.modules, "callboard.brokers.link", None)
    with pytest.raises(errors.InvalidSetting, match=r"pip install 'callboard\[activemq\]'") as raised:
        brokers.links()
    assert "\n" not in raised.value.message


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(tmp_path):
    made = certs.init(tmp_path)
    key = serialization.load_pem_private_key(made.key.read_bytes(), None)
    closed = tmp_path / "closed.key"
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    closed.write_bytes(key.private_bytes(pem, form, serialization.BestAvailableEncryption(b"sesame")))
    url = f"activemq://h?tls=true&ca={made.certificate}&cert={made.certificate}&key="
    assert wire.context(address.parsed(f"{url}{made.key}")) is not None
    with pytest.raises(errors.InvalidSetting, match="certificates cannot be read"):
        wire.context(address.parsed(f"{url}{closed}"))
