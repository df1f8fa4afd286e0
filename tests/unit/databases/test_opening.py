"""Opening a database by its URL: what is needed for it, and what it says when that is missing."""

from __future__ import annotations

import sys

import pytest

from callboard import databases, errors


@pytest.mark.parametrize(
    ("scheme", "driver", "extra"),
    [("mysql", "MySQLdb", "mysql"), ("mariadb", "MySQLdb", "mysql"), ("postgres", "psycopg", "postgresql")],
)
def test_a_driver_that_is_missing_is_named(monkeypatch, scheme, driver, extra):
    monkeypatch.setitem(sys.modules, driver, None)
    for module in [name for name in sys.modules if name.startswith("callboard.databases.")]:
        monkeypatch.delitem(sys.modules, module)
    for module in ("mysql", "postgresql"):
        monkeypatch.delattr(databases, module, raising=False)
    with pytest.raises(errors.InvalidSetting, match=rf"pip install 'callboard\[{extra}\]'") as raised:
        databases.open(f"{scheme}://u:secret@h/n")
    assert "secret" not in raised.value.message


def test_opening_connects_to_nobody():
    database = databases.open("postgres://u:secret@127.0.0.1:1/n")
    assert database.address.hosts == (("127.0.0.1", 1),)
    assert not database.galera
