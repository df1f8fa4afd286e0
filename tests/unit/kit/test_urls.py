"""URLs of servers, taken apart: what all kinds of them share."""

from __future__ import annotations

import pytest

from callboard import errors
from callboard.kit import urls

FORM = urls.Form("write store://USER:PASSWORD@HOST:PORT/NAME", 77, ("tls", "ca", "cert", "key"))


def test_all_parts():
    found = FORM.parts("store://u%40x:p%3A%2Fw%3F@one:3307,two,[::1]:5,[fe80::2]/na%2Fme/x?ca=/a%20b.pem&tls=true")
    assert found == urls.Parts(
        hosts=(("one", 3307), ("two", 77), ("::1", 5), ("fe80::2", 77)),
        login=True,
        user="u@x",
        password="p:/w?",
        path="na%2Fme/x",
        options={"ca": "/a b.pem", "tls": "true"},
    )


def test_what_may_be_left_out():
    assert FORM.parts("store://h") == urls.Parts((("h", 77),), False, "", "", "", {})
    assert FORM.parts("store://@h/").login and FORM.parts("store://u@h").user == "u"


def test_schemes():
    assert [urls.scheme(url) for url in ("a://b", "a+b://c://d", "a:b", "a", "")] == ["a", "a+b", "", "", ""]


def test_what_is_shown():
    hosts = (("one", 1), ("::1", 2))
    assert urls.places(hosts) == "one:1,[::1]:2" and urls.written(hosts[1]) == "[::1]:2"
    assert urls.shown("store", "u/@", hosts) == "store://u%2F%40@one:1,[::1]:2"
    assert urls.shown("store", "", hosts) == "store://one:1,[::1]:2"
    assert "secret" not in repr(FORM.parts("store://u:secret@h"))


@pytest.mark.parametrize(("options", "encrypted"), [({}, False), ({"tls": "false"}, False), ({"tls": "true", "ca": "x"}, True)])
def test_encrypted_or_not(options, encrypted):
    assert FORM.encrypted(options) is encrypted


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"tls": "yes"}, "tls is true or false"),
        ({"cert": "x"}, "cert is of use with"),
        ({"tls": "false", "key": "x"}, "key is of"),
    ],
)
def test_what_does_not_go_with_encryption(options, why):
    with pytest.raises(errors.InvalidSetting, match=why):
        FORM.encrypted(options)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("store://", "host is missing"),
        ("store://u:secret@", "host is missing"),
        ("store://u:secret@h,/n", "host is missing"),
        ("store://u:secret@:5", "host is missing"),
        ("store://u:secret@::1", "host is missing"),
        ("store://u:secret@[]", "host is missing"),
        ("store://u:secret@%2Frun%2Fx.sock", "'%2Frun%2Fx.sock' is not HOST or HOST:PORT"),
        ("store://u:secret@a b", "'a b' is not HOST or HOST:PORT"),
        ("store://u:secret@a]", "'a]' is not HOST or HOST:PORT"),
        ("store://u:secret@h:", "port after 'h'"),
        ("store://u:secret@h:x", "port after 'h'"),
        ("store://u:secret@h:0", "port after 'h'"),
        ("store://u:secret@h:65536", "port after 'h'"),
        ("store://u:secret@h:٣", "port after 'h'"),
        ("store://u:secret@[::1]5", "port after '::1'"),
        ("store://u:secret@[::1", "port after '::1'"),
        ("store://u:secret", "port after 'u'"),
        ("store://u:sec/ret@h", "written %2F"),
        ("store://u:sec#ret@h", "written %2F"),
        ("store://u:sec@ret@h", "written %2F"),
        ("store://u:7?secret@h", "written %2F"),
        ("store://u:secret@h/n#x", "written %2F"),
        ("store://u:secret@h?size=3", "no option 'size': there are tls, ca, cert, key"),
        ("store://u:secret@h?ca=", "'ca' has no value"),
    ],
)
def test_a_url_that_is_wrong_is_one_line_without_the_password(url, why):
    with pytest.raises(errors.InvalidSetting) as raised:
        FORM.parts(url)
    assert why in raised.value.message and raised.value.message.endswith(FORM.like)
    assert "\n" not in raised.value.message and "sec" not in raised.value.message and "ret" not in raised.value.message
