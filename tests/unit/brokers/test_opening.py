"""What is said where the optional extra is missing."""

from __future__ import annotations

import sys

import pytest

from callboard import brokers, errors


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.delattr(brokers, "link", raising=False)
    monkeypatch.setitem(sys.modules, "callboard.brokers.link", None)
    with pytest.raises(errors.InvalidSetting, match=r"pip install 'callboard\[activemq\]'") as raised:
        brokers.links()
    assert "\n" not in raised.value.message
