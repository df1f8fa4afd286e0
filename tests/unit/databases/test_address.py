"""URLs of databases, taken apart."""

from __future__ import annotations

import pytest

from callboard import errors
from callboard.databases import address


def test_all_parts():
    found = address.parsed("mysql://u%40x:p%3A%2Fw@one:3307,two,[::1]:3308/na%2Fme?ssl_ca=/etc/ca.pem")
    assert found == address.Address(
        scheme="mysql",
        user="u@x",
        password="p:/w",
        hosts=(("one", 3307), ("two", 3306), ("::1", 3308)),
        name="na/me",
        options={"ssl_ca": "/etc/ca.pem"},
    )


@pytest.mark.parametrize(
    ("scheme", "product", "port"),
    [("mysql", "mysql", 3306), ("mariadb", "mysql", 3306), ("postgres", "postgresql", 5432), ("postgresql", "postgresql", 5432)],
)
def test_schemes(scheme, product, port):
    found = address.parsed(f"{scheme}://u:p@h/n")
    assert (found.product, found.hosts) == (product, (("h", port),))


def test_it_is_shown_without_the_password():
    assert address.parsed("mysql://u:secret@one,[::1]/n?ssl_ca=x").shown == "mysql://u@one:3306,[::1]:3306/n"
    assert address.parsed("postgres://h/n").shown == "postgres://h:5432/n"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("sqlite:///x", "begins with one of"),
        ("mysql:u:secret@h/n", "begins with one of"),
        ("mysql://u:secret@h", "name of the database is missing"),
        ("mysql://u:secret@h/", "name of the database is missing"),
        ("mysql://h/n", "user is missing"),
        ("mysql://u:secret@/n", "host is missing"),
        ("mysql://u:secret@%2Frun%2Fmysqld.sock/n", "not by a socket file"),
        ("mysql://u:secret@h,/n", "host is missing"),
        ("mysql://u:secret@h:x/n", "port after 'h'"),
        ("mysql://u:secret@h:0/n", "port after 'h'"),
        ("mysql://u:secret@h:70000/n", "port after 'h'"),
        ("mysql://u:secret@[::1]x/n", "port after '::1'"),
        ("mysql://u:secr/et@h/n", "written %2F"),
        ("mysql://u:secr#et@h/n", "written %2F"),
        ("mysql://u:secret@h/n?charset=latin1", "no option 'charset': there are ssl_ca"),
        ("postgres://u:secret@h/n?options=x", "no option 'options': there are sslmode"),
    ],
)
def test_a_url_that_is_wrong_is_one_line_without_the_password(url, why):
    with pytest.raises(errors.InvalidSetting) as raised:
        address.parsed(url)
    assert why in raised.value.message
    assert "\n" not in raised.value.message
    assert "secr" not in raised.value.message
