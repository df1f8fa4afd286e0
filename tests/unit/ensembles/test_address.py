"""URLs of ensembles, taken apart."""

from __future__ import annotations

import pytest

from callboard import ensembles, errors
from callboard.ensembles import address


def test_all_parts():
    found = address.parsed(
        "zookeeper://u%40x:p%3A%2Fw@one:1,two,[::1]:5/a/b?auth=sasl&tls=true&ca=/ca.pem&cert=/c&key=/k&size=3", ["size"]
    )
    assert found.hosts == (("one", 1), ("two", 2181), ("::1", 5)) and found.places == "one:1,two:2181,[::1]:5"
    assert (found.root, found.user, found.password, found.auth, found.tls) == ("/a/b", "u@x", "p:/w", "sasl", True)
    assert found.options["size"] == "3" and found.options["ca"] == "/ca.pem"


def test_what_holds_where_nothing_is_said():
    found = address.parsed("zookeeper://one")
    assert (found.root, found.user, found.auth, found.tls) == ("/callboard", "", "", False)
    assert address.parsed("zookeeper://u:p@one").auth == "digest"
    assert address.parsed("zookeeper://one/", root="/jobs").root == "/jobs"


def test_it_is_shown_without_the_password():
    url = "zookeeper://u%2F:secret@one/a?tls=true"
    found = address.parsed(url)
    assert found.shown == ensembles.shown(url) == "zookeeper://u%2F@one:2181/a"
    assert "secret" not in repr(found) + str(found)


def test_its_scheme_tells():
    assert ensembles.named("zookeeper://h") and not ensembles.named("mysql://zookeeper://h")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mysql://h", "begins with zookeeper://"),
        ("zookeeper://a,,b", "is not HOST or HOST:PORT"),
        ("zookeeper://a:0", "is not HOST or HOST:PORT"),
        ("zookeeper://a:70000", "is not HOST or HOST:PORT"),
        ("zookeeper://a/..", "the root"),
        ("zookeeper://a//b", "the root"),
        ("zookeeper://secret@a", "USER:PASSWORD@"),
        ("zookeeper://u:@a", "USER:PASSWORD@"),
        ("zookeeper://u:se/cret@a", "%2F"),
        ("zookeeper://u:secret#@a", "%23"),
        ("zookeeper://a?backlog=1", "no option 'backlog'"),
        ("zookeeper://a?tls=yes", "tls is true or false"),
        ("zookeeper://a?tls=true&ca=", "'ca' has no value"),
        ("zookeeper://a?ca=/x", "add tls=true"),
        ("zookeeper://a?tls=true&cert=/x", "cert and key go together"),
        ("zookeeper://u:secret@a?auth=plain", "auth is digest or sasl"),
        ("zookeeper://a?auth=sasl", "add USER:PASSWORD@"),
    ],
)
def test_what_is_wrong_is_said_without_the_password(url, why):
    with pytest.raises(errors.InvalidSetting, match=why) as wrong:
        address.parsed(url)
    assert "secret" not in str(wrong.value)
